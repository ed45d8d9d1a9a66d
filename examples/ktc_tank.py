"""Reconstruct one measured water tank of the Kuopio Tomography Challenge 2023.

    python examples/ktc_tank.py ref.mat data1.mat [OUTPUT.png]

``onmanifold tank`` does the same for a folder of tanks, at all levels of difficulty, with scores.
"""

import sys

import torch

from onmanifold.applications import tanks
from onmanifold.applications.tanks import Case
from onmanifold.operators.eit import calibrate_tank, ktc

reference, data = sys.argv[1:3]
output = sys.argv[3] if len(sys.argv) > 3 else "tank.png"
torch.set_num_threads(1)  # one tank gains nothing from more

measurement = ktc.read(data)
tank = calibrate_tank(ktc.tank(), ktc.read(reference))
found = tanks.reconstruct(tank, measurement)

for (resistive, conductive), probability in found.counts.items():
    print(f"{resistive} resistive and {conductive} conductive objects: {probability:.1%}")
print(f"consistent with the data: {found.consistent} (p = {found.p_value:.2g})")
tanks.figure_of((Case("", 0, measurement, None), found)).savefig(output)
print(f"wrote {output}")
