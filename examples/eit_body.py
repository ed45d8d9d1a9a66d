"""EIT of a body of your own shape: outline, electrodes, calibration, an image by one linear step.

Run ``python examples/eit_body.py [OUTPUT.png]``; it needs gmsh and dolfinx.
"""

import sys
from dataclasses import replace

import numpy as np
import torch
from matplotlib.figure import Figure

from onmanifold import simulate
from onmanifold.operators.eit import (
    EIT,
    BoundaryCurve,
    Exponential,
    Measurement,
    Protocol,
    approximation_error,
    calibrate,
    generate_mesh,
    one_step,
    plot_eit,
)

# the outline of a chest, m: a closed spline through a few points, 16 electrodes of 3 cm
chest = BoundaryCurve(
    0.01
    * np.array([(0, 10), (11, 10), (17, 2), (13, -8), (0, -9), (-13, -8), (-17, 2), (-11, 10)]),
    electrodes=16,
    width=0.03,
    smooth=True,
    contact_impedance=1e-2,
)
protocol = Protocol.adjacent(16, current=1e-3, drop_driven=True)
shape = (1, 32, 32)

# the experiment: a finer mesh than the one that inverts, unknown contact impedances, two lungs full of air
unknown = 1e-2 * torch.exp(torch.randn(16, generator=torch.Generator().manual_seed(0)))
real = replace(chest, contact_impedance=tuple(unknown.tolist()))
laboratory = EIT(real, protocol, shape, mesh=generate_mesh(real, edge=0.01, interior=0.04))
(left, bottom), (right, top) = chest.extent
x = torch.linspace(left, right, 65, dtype=torch.float64)[1::2]  # the pixels' centres
y = torch.linspace(top, bottom, 65, dtype=torch.float64)[1::2, None]
lungs = ((x.abs() - 0.075) / 0.045) ** 2 + ((y - 0.01) / 0.06) ** 2 < 1
empty = torch.full((1, *shape), 0.3, dtype=torch.float64)
filled = empty.masked_fill(lungs, 0.1)
noise = 1e-4 * float(laboratory.A(empty).abs().mean())
before, after = (simulate(laboratory, s, noise, seed)[0] for seed, s in enumerate((empty, filled)))

# calibrate: conductivity and contact impedances from the body without air in it
mesh = generate_mesh(chest)
calibration = calibrate(chest, Measurement.from_values(protocol, before), mesh=mesh, std=noise)
print(calibration.summary())

# one linear step from the calibrated body, by differences to the body without air
conductivity = calibration.values.conductivity
eit = EIT(
    calibration.geometry,
    protocol,
    shape,
    conductivity=Exponential(conductivity),
    mesh=mesh,
    reference=before,
)
difference = Measurement.from_values(protocol, after - before)
errors = approximation_error(difference, torch.full_like(before, noise))  # of linearity, too
logarithm = one_step(eit, after[None], errors.fidelity(), inside=eit.inside, length=0.14).mean
change = eit.cell_conductivity(logarithm)[0] - conductivity

figure = Figure(figsize=(11, 4), layout="tight")
axes = figure.subplots(1, 2)
plot_eit(real, laboratory.engine.discretization, laboratory.cell_conductivity(filled)[0], axes[0])
plot_eit(chest, mesh, change, axes[1])
axes[0].set_title("truth")
axes[1].set_title("change, by one linear step")
figure.savefig(sys.argv[1] if len(sys.argv) > 1 else "body.png", dpi=100)
places = torch.from_numpy(mesh.points[mesh.cells].mean(axis=1))
inside = ((places[:, 0].abs() - 0.075) / 0.045) ** 2 + ((places[:, 1] - 0.01) / 0.06) ** 2 < 0.5
lung, elsewhere = float(change[inside].mean()), float(change[~inside].mean())
print(f"change of the conductivity in the lungs {lung:.3f} S/m, elsewhere {elsewhere:.3f} S/m")
