"""From a folder of images to a restored one: learn a prior of them, and deblur one that it never saw.

python examples/own_images.py OUTPUT_FOLDER [FOLDER_OF_IMAGES] [STEPS]

Without images of your own it takes sneakers of Fashion-MNIST, from the folder fashion-mnist of
$ONMANIFOLD_DATA, or else draws an object turned in space, and saves them as PNG files first.
"""

import os
import sys
from pathlib import Path

import numpy as np
from skimage.io import imsave

from onmanifold import Gaussian, InitialPoints, load_dataset, simulate, solve, train_prior
from onmanifold.operators import Blur, gaussian_kernel
from onmanifold.priors.datasets import OwnExamples

output = Path(sys.argv[1] if len(sys.argv) > 1 else "own")
images = Path(sys.argv[2]) if len(sys.argv) > 2 else output / "images"
steps = int(sys.argv[3]) if len(sys.argv) > 3 else None

if not images.exists():
    images.mkdir(parents=True)
    at_hand = "ONMANIFOLD_DATA" in os.environ
    data = load_dataset("fashion-mnist", labels=[7]) if at_hand else load_dataset("rotating-object")
    for i, image in enumerate(data.sample(3000, 0)[0].unique(dim=0)):
        imsave(images / f"{i:04}.png", np.uint8(255 * image[0]), check_contrast=False)

prior = train_prior(images, output=output / "prior", steps=steps)

truth = OwnExamples(images).part("held-out").x[:4]
blur, noise = Blur(gaussian_kernel(7, std=1.5), prior.x_shape), 0.05
measured = simulate(blur, truth, noise, generator=0)
solution = solve(blur, measured, prior, fidelity=Gaussian(noise), starts=InitialPoints(256, 8))
for name, x in (("blurred", measured), ("restored", solution.x)):
    error = (x - truth).flatten(1).square().mean(dim=1)
    print(f"{name}: PSNR {', '.join(f'{ratio:.1f}' for ratio in -10 * error.log10())} dB")
solution.plot(truth=truth).savefig(output / "restored.png")
