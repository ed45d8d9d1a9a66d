"""208 voltages as pyEIT simulates them, in two CSV files for ``onmanifold eit``.

Run ``python examples/eit_pyeit.py [FOLDER]``; it needs pyEIT (``pip install pyeit``). Then

    onmanifold eit FOLDER/reference.csv FOLDER/data.csv --protocol pyeit16
"""

import sys
from pathlib import Path

import numpy as np
import pyeit.eit.protocol as protocol
import pyeit.mesh as mesh
from pyeit.eit.fem import EITForward
from pyeit.mesh.wrapper import PyEITAnomaly_Circle

folder = Path(sys.argv[1] if len(sys.argv) > 1 else ".")
folder.mkdir(parents=True, exist_ok=True)

# a disk of conductivity 1 with 16 electrodes; a resistive object and a conductive one
disk = mesh.create(16, h0=0.08)
objects = [
    PyEITAnomaly_Circle(center=[0.4, 0.4], r=0.2, perm=0.1),
    PyEITAnomaly_Circle(center=[-0.4, -0.2], r=0.22, perm=10.0),
]
filled = mesh.set_perm(disk, anomaly=objects, background=1.0)

model = EITForward(disk, protocol.create(16, dist_exc=1, step_meas=1, parser_meas="std"))
reference, data = model.solve_eit(), model.solve_eit(perm=filled.perm)
noise = 1e-3 * np.random.default_rng(0).normal(size=(2, len(data)))
np.savetxt(folder / "reference.csv", (reference * (1 + noise[0]))[None], delimiter=",")
np.savetxt(folder / "data.csv", (data * (1 + noise[1]))[None], delimiter=",")
print(f"{len(data)} voltages each in {folder}/reference.csv and {folder}/data.csv")
