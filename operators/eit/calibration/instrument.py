"""The instrument between potentials and readings: offsets, common-mode errors, amplitudes of currents."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from onmanifold.operators.eit.models.protocol import Protocol


@dataclass(frozen=True, eq=False)
class Instrument:
    r"""How the measured voltages follow from the potentials U of the electrodes.

    Channel j of injection i reads

        V_ij = exp(g_i) (p_j . U_i + c_j (|p_j| . U_i / sum |p_j| - U_i[sink of i])) + b_j.

    ``b`` are offsets. ``c`` are common-mode errors: a channel sees, beside the difference that it should
    measure, a small part of how far both electrodes lie above the instrument's ground, which is taken to
    be the electrode into which the current flows. ``g`` are errors of the currents' amplitudes.

    Attributes:
        protocol: injections and patterns as they are meant to be.
        offsets: b, V, ``(M,)``.
        common: c, without unit, ``(M,)``.
        currents: g, without unit, ``(I,)``.

    Example:
        >>> instrument = Instrument.ideal(Protocol.opposite(4))
        >>> instrument.read(torch.tensor([[1.0, 0.0, -1.0, 0.0]] * 2).double()).shape
        torch.Size([2, 4])
        >>> instrument.effective() == Protocol.opposite(4)
        True
    """

    protocol: Protocol
    offsets: Tensor
    common: Tensor
    currents: Tensor

    @classmethod
    def ideal(cls, protocol: Protocol) -> Instrument:
        """One without errors."""
        injections, patterns = protocol.full_shape
        zeros = torch.zeros(patterns, dtype=torch.float64)
        return cls(protocol, zeros, zeros, torch.zeros(injections, dtype=torch.float64))

    def heights(self, potentials: Tensor) -> Tensor:
        """How far each pattern's electrodes lie above the sink: ``(..., I, L)`` to ``(..., I, M)``."""
        sink = potentials[..., torch.arange(len(self.sinks)), torch.tensor(self.sinks)]
        return potentials @ torch.tensor(self._levels) - sink[..., None]

    def read(self, potentials: Tensor, offsets: bool = True) -> Tensor:
        """What the channels read: ``(..., I, L)`` to ``(..., I, M)``; for changes leave offsets out."""
        clean = potentials @ torch.tensor(self.protocol.patterns) + self.common * self.heights(
            potentials
        )
        scaled = self.currents.exp()[:, None] * clean
        return scaled + self.offsets if offsets else scaled

    @property
    def sinks(self) -> np.ndarray:
        """The electrode of each injection with the most negative current, ``(I,)``."""
        return np.argmin(self.protocol.injections, axis=0)

    @property
    def _levels(self) -> np.ndarray:
        weights = np.abs(self.protocol.patterns)
        return np.asarray(weights / weights.sum(axis=0))

    def effective(self) -> Protocol:
        """The protocol that this instrument really has, offsets aside.

        Its injections have the true amplitudes, its patterns the common-mode errors; since these depend on
        the injection's sink, there is a set of patterns for each sink, of which every injection measures
        its own. The measured voltages come in the order of the original ones, as a vector if ``c`` is
        not zero.
        """
        injections = self.protocol.injections * self.currents.exp().numpy()
        patterns, measured = self.protocol.patterns, self.protocol.measured
        if not bool(self.common.any()):
            return Protocol(injections, patterns, measured)
        ground, which = np.unique(self.sinks, return_inverse=True)
        common = self.common.numpy()
        sets = []
        for electrode in ground:
            height = self._levels.copy()
            height[electrode] -= 1
            sets.append(patterns + common * height)
        mask = np.zeros((len(which), len(ground), patterns.shape[1]), bool)
        mask[np.arange(len(which)), which] = self.protocol.mask
        return Protocol(injections, np.concatenate(sets, axis=1), mask.reshape(len(which), -1))
