"""Find the holes in one measured disk of the Helsinki Tomography Challenge 2022.

    python examples/htc_disk.py solid.mat ta.mat [OUTPUT.png]

The files are at doi:10.5281/zenodo.6984868. ``onmanifold disk`` does the same for a folder, with scores.
"""

import sys

import torch

from onmanifold.applications import disks
from onmanifold.applications.disks import Case
from onmanifold.operators.ct import calibrate_disk, htc

solid, data = sys.argv[1:3]
output = sys.argv[3] if len(sys.argv) > 3 else "disk.png"
torch.set_num_threads(1)  # one disk gains little from more

scanner = calibrate_disk(htc.read(solid))
measured = htc.read(data)
found = disks.reconstruct(scanner, measured)

for holes, probability in found.counts.items():
    print(f"{holes} holes: {probability:.1%}")
print(f"consistent with the data: {found.consistent} (p = {found.p_value:.2g})")
disks.figure_of((Case("disk", 0, measured, None), found)).savefig(output)
print(f"wrote {output}")
