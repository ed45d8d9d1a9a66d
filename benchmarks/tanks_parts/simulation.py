"""What a real tank's instrument would have measured of a scene.

The numbers rest on the four tanks of the Kuopio Tomography Challenge 2023 whose contents are known: what
``calibrate`` finds in their reference measurement, and what their difference voltages leave unexplained under
the true pictures.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.tanks_parts.mesh import cut_mesh, middles
from benchmarks.tanks_parts.scenes import Scene
from benchmarks.tanks_parts.shapes import Array, Source, inside
from onmanifold.operators.eit import (
    CompleteElectrodes,
    Engine,
    Instrument,
    Protocol,
    assemble,
    ktc,
    noise_std,
)

WIDTH, WIDTH_STD = 6.7, 0.25  # degrees that an electrode acts on, as described 5.625
PLACE_STD = 0.25  # degrees that an electrode is off its place
IMPEDANCE = (1e-6, 1e-4)
WATER, WATER_STD = 0.73, 0.03  # mS, and its relative standard deviation from tank to tank
DRIFT = (-0.03, 0.09)  # of the water between the two measurements
COMMON_STD = 0.007  # common-mode error of a channel
CURRENT_STD, INJECTION_STD = (
    0.025,
    0.004,
)  # error of a source electrode's current, of each injection's
OFFSET_STD = 0.006  # V
BAD_COMMON = 0.04  # common-mode error of the bad electrode's two channels, of opposite signs
BAD_JUMP, BAD_SHARE = (
    0.12,
    0.15,
)  # V that its contact may take, and in how many of its injections it does

SOURCES = [
    k for k in range(0, 32, 2) if k % 8
]  # electrodes that are never the sink of many injections


@dataclass(frozen=True, eq=False)
class TrueTank:
    """A tank and its instrument, which no reconstruction knows.

    Attributes:
        ends: angles at which each electrode starts and ends, degrees, ``(32, 2)``.
        impedances: of the contacts, Ohm m, ``(32,)``.
        water: conductivity at the reference measurement, mS.
        drift: relative change of it until the other measurement.
        instrument: its errors.
        bad: number of the bad electrode, from 0; its contact fails at times while it carries current.
    """

    ends: Array
    impedances: Array
    water: float
    drift: float
    instrument: Instrument
    bad: int


def make_tank(number: int) -> TrueTank:
    """The tank of a scene, the same each time."""
    source = np.random.default_rng([2027, number])
    places = ktc.tank().angles + PLACE_STD * source.standard_normal(32)
    widths = WIDTH + WIDTH_STD * source.standard_normal(32).clip(-2, 2)
    protocol = ktc.protocol()
    bad = int(source.choice(SOURCES))
    common = COMMON_STD * source.standard_normal(31)
    common[[bad - 1, bad]] = BAD_COMMON, -BAD_COMMON
    driving = np.argmax(protocol.injections, axis=0)
    currents = CURRENT_STD * source.standard_normal(32)[driving]
    currents += INJECTION_STD * source.standard_normal(len(driving))
    offsets = OFFSET_STD * source.standard_normal(31)
    errors = (torch.from_numpy(error) for error in (offsets, common, currents))
    return TrueTank(
        ends=places[:, None] + widths[:, None] * np.array([-0.5, 0.5]),
        impedances=np.exp(source.uniform(*np.log(IMPEDANCE), 32)),
        water=WATER * (1 + WATER_STD * source.standard_normal()),
        drift=source.uniform(*DRIFT),
        instrument=Instrument(protocol, *errors),
        bad=bad,
    )


def simulate_scene(scene: Scene, tank: TrueTank, finer: float = 1.0) -> tuple[Tensor, Tensor]:
    """Voltages of the tank with water only and with the scene, V, ``(76, 31)`` each.

    Complete electrode model, quadratic elements, cells curved along the wall and cut at the outlines.
    """
    radius = ktc.tank().radius
    mesh = cut_mesh(tank.ends, [body.rings for body in scene.bodies], radius, finer)
    potentials = Protocol(ktc.protocol().injections, np.eye(32))
    engine = Engine(assemble(mesh, 2), CompleteElectrodes(tank.impedances, potentials))
    water = np.full(engine.cells, tank.water)
    filled = water * (1 + tank.drift)
    for body in scene.bodies:
        filled[inside(body.rings, middles(mesh) / radius)] *= body.contrast
    source = np.random.default_rng([2028, scene.number])
    reference, measured = (
        _read(engine.voltages(engine.fields(torch.from_numpy(s)[None]))[0], tank, source)
        for s in (water, filled)
    )
    return reference, measured


def _read(potentials: Tensor, tank: TrueTank, source: Source) -> Tensor:
    """What the instrument reads of the electrodes' potentials ``(76, 32)``: ``(76, 31)``."""
    potentials = potentials.clone()
    carries = tank.instrument.protocol.injections[tank.bad] != 0
    fails = carries & (source.random(len(carries)) < BAD_SHARE)
    jumps = np.where(fails, BAD_JUMP * source.uniform(-1, 1, len(carries)), 0.0)
    potentials[:, tank.bad] += torch.from_numpy(jumps)
    read = tank.instrument.read(potentials)
    return read + noise_std(read) * torch.from_numpy(source.standard_normal(read.shape))
