"""Training an atlas: seeding, joint training with a Lipschitz phase, overlap.

Source: Alberti et al., JMLR 25 (2024), section 4.
"""

from __future__ import annotations

import copy
import logging
from dataclasses import dataclass
from typing import Self

import torch
from torch import Tensor
from torch.nn import functional

from onmanifold.errors import InputError
from onmanifold.priors.atlas.atlas import Atlas, AtlasConfig
from onmanifold.priors.atlas.seeding import Revival, spread_centres
from onmanifold.priors.datasets import Dataset, draw_examples, stream
from onmanifold.priors.networks import default_network
from onmanifold.priors.training.dimension import features
from onmanifold.priors.training.method import Schedule, Table, TrainingMethod, check_examples
from onmanifold.priors.training.values import NOISE, fitting_noise, some_examples, with_values

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class AtlasSchedule(Schedule):
    """Numbers of steps and sizes of a training run.

    Attributes:
        seeding: steps in which each chart learns the samples nearest to its own centre.
        joint: steps on the mixture's evidence bound.
        overlap: steps on responsibilities that let neighbouring charts overlap.
        lipschitz: weight of the Lipschitz penalty.
        lipschitz_for: how long it counts, in lengths of the joint phase; the overlap phase goes on counting.
        hidden: weight of the penalty on what latent samples write into the charts' hidden directions: it
            makes the networks of a chart agree in the whole latent box, not just where data are.
        hidden_from: step after seeding from which on it counts.
        stretch: in the overlap phase only points with ``stretch * |s|`` inside the box are a chart's own.
        refresh: steps after which the overlap phase computes responsibilities with the newer charts, and
            the first three quarters of the joint phase look for dead charts.
        dead: a chart is dead that explains less than this part of an even share of the examples; it is seeded
            anew. 0: none ever is.
        pool: examples among which the centres are chosen.
    """

    or_zero = (
        *("seeding", "joint", "overlap", "hidden_from"),
        *("lipschitz", "lipschitz_for", "hidden", "dead", "patience"),
    )

    seeding: int = 0
    joint: int = 0
    overlap: int = 0
    lipschitz: float = 0.0
    lipschitz_for: float = 0.25
    hidden: float = 0.0
    hidden_from: int = 0
    stretch: float = 1.5
    refresh: int = 500
    dead: float = 0.1
    pool: int = 2000

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.patience:
            raise InputError(
                "schedule: an atlas has no patience: each of its phases has to come to its end"
            )

    @property
    def steps(self) -> int:
        return self.seeding + self.joint + self.overlap


class AtlasTraining(TrainingMethod):
    """The atlas algorithm.

    Args:
        atlas: the atlas to train, in place.
        data: the manifold that it learns.
        schedule: numbers of steps and sizes.
        seed: seed of data and noise.
    """

    schedule: AtlasSchedule
    centres: Tensor

    def __init__(self, atlas: Atlas, data: Dataset, schedule: AtlasSchedule, seed: int) -> None:
        super().__init__(data, schedule, seed)
        self.atlas = atlas
        self.teacher = copy.deepcopy(atlas).requires_grad_(False)
        pool = draw_examples(data, "seeding", schedule.pool, stream(seed, "seeding"))
        what = f"{atlas.num_charts} charts (lower them, or enlarge schedule.pool)"
        check_examples(pool, atlas.x_shape, atlas.num_charts, what)
        points = features(pool)
        self.register_buffer("centres", spread_centres(points, atlas.num_charts))
        self.revival = Revival(
            atlas.num_charts, points.shape[1], schedule.dead, max(1, schedule.seeding // 2)
        )

    @classmethod
    def prepare(cls, data: Dataset, model: Table, schedule: Table, loss: Table, seed: int) -> Self:
        if loss:
            raise InputError(f"the atlas has no [loss] to choose: {', '.join(loss)}")
        model = cls._fitted(data, model, seed)
        atlas = Atlas(AtlasConfig(x_shape=data.x_shape, **model))
        return cls(atlas, data, AtlasSchedule(**schedule), seed)

    @staticmethod
    def _fitted(data: Dataset, model: Table, seed: int) -> Table:
        """The table ``[model]`` with background, amplitude and noise in the unit of the data."""
        chart = model.get("chart", {})
        if "amplitude" in chart:
            return model
        x = some_examples(data, seed)
        chart = with_values(chart, x)
        if "amplitude" not in chart:
            return model
        sigma_x = fitting_noise(model.get("sigma_x"), chart["amplitude"], x)
        return model | {"chart": chart, "sigma_x": sigma_x}

    @classmethod
    def defaults(cls, x: Tensor, dim: int) -> dict[str, Table]:
        chart = default_network(x[0].shape)
        spread = float(x.std(dim=0).norm())
        return {
            "model": {"dim": dim, "charts": 4, "sigma_x": NOISE * spread, "chart": chart},
            "schedule": {"seeding": 500, "joint": 4000, "overlap": 1000, "learning_rate": 2e-3},
        }

    @property
    def prior(self) -> Atlas:
        return self.atlas

    def draw(self, step: int) -> dict[str, Tensor]:
        n, dim = self.schedule.batch_size, self.atlas.dim
        generator = stream(self.seed, "train", step)
        x = draw_examples(self.data, "train", n, generator)
        latent = self.atlas.density.sample(n, dim, generator).float()
        return {"x": x, "noise": torch.randn((n, dim), generator=generator), "latent": latent}

    def training_step(self, batch: dict[str, Tensor]) -> Tensor:
        x, noise, latent, step = batch["x"], batch["noise"], batch["latent"], int(batch["step"])
        schedule = self.schedule
        if step < schedule.seeding:
            loss = self._seeding_loss(x, noise)
        elif step < schedule.seeding + schedule.joint:
            loss = self._joint_loss(x, noise, step)
        else:
            loss = self._overlap_loss(x, noise, step)
        return loss + self._penalties(step - schedule.seeding, latent, noise)

    def _seeding_loss(self, x: Tensor, noise: Tensor) -> Tensor:
        nearest = torch.cdist(features(x), self.centres).argmin(dim=1)
        own = functional.one_hot(nearest, self.atlas.num_charts).to(x)
        return weighted_loss(self.atlas, x, noise, own)

    def _joint_loss(self, x: Tensor, noise: Tensor, step: int) -> Tensor:
        if self.atlas.num_charts == 1:
            return weighted_loss(self.atlas, x, noise, x.new_ones(len(x), 1))
        self._revive_dead(step)
        energies = mixture_energies(self.atlas, x, noise)
        owner = energies.argmin(dim=1)
        self.revival.observe(owner)
        weights = self.revival.claim(mixture_weights(energies), x, owner, step)
        return weighted_loss(self.atlas, x, noise, weights)

    def _overlap_loss(self, x: Tensor, noise: Tensor, step: int) -> Tensor:
        schedule = self.schedule
        if (step - schedule.seeding - schedule.joint) % schedule.refresh == 0:
            self.teacher.load_state_dict(self.atlas.state_dict())
        weights = overlap_weights(self.teacher, x, schedule.stretch)
        return weighted_loss(self.atlas, x, noise, weights)

    def _revive_dead(self, step: int) -> None:
        """At the steps for it, in the first three quarters of the joint phase."""
        schedule, done = self.schedule, step - self.schedule.seeding
        if done == 0 or done % schedule.refresh or done > 0.75 * schedule.joint:
            return
        for k in self.revival.dead():
            generator = stream(self.seed, "seeding", step)
            pool = draw_examples(self.data, "seeding", schedule.pool, generator)
            fresh = self.revival.revive(self.atlas, k, pool.to(self.device), step, self.seed + step)
            for parameter in fresh:  # the optimizer's moments belong to the weights that are gone
                if self.optimizer is not None:
                    self.optimizer.state.pop(parameter, None)
            logger.warning(
                "step %d: chart %d was assigned next to nothing and is seeded anew", step, k
            )

    def _penalties(self, step: int, latent: Tensor, noise: Tensor) -> Tensor:
        """What regularizes charts ``step`` steps after seeding; of a part of the batch, for it costs much."""
        schedule, few = self.schedule, slice(max(1, len(latent) // 4))
        total = latent.new_zeros(())
        if step < 0:
            return total
        if schedule.lipschitz and step < schedule.joint * schedule.lipschitz_for:
            penalty = lipschitz_penalty(self.atlas, latent[few], noise[few])
            total = total + schedule.lipschitz * penalty
        if schedule.hidden and step >= schedule.hidden_from:
            total = total + schedule.hidden * hidden_penalty(self.atlas, latent[few])
        return total


@torch.no_grad()
def mixture_energies(atlas: Atlas, x: Tensor, noise: Tensor) -> Tensor:
    """E_k = L_k - log alpha_k, ``(B, K)``."""
    return atlas.energies(x, noise) - atlas.log_weights


def mixture_weights(energies: Tensor) -> Tensor:
    """How much each chart's energy counts in the gradient of the mixture's bound, ``(B, K)``.

    The bound is sum_k gamma_k E_k with gamma = softmax(-E). Its derivative by E_k, the one through gamma
    included, is gamma_k (1 - E_k + sum_j gamma_j E_j): practically zero for all charts but the one or two
    that explain an example, so the others need no backward pass.
    """
    gamma = (-energies).softmax(dim=1)
    return gamma * (1 - energies + (gamma * energies).sum(dim=1, keepdim=True))


def weighted_loss(atlas: Atlas, x: Tensor, noise: Tensor, weights: Tensor) -> Tensor:
    """Mean of sum_k w_k (L_k - log alpha_k) with fixed weights ``(B, K)``; a chart skips weight zero."""
    total = x.new_zeros(())
    for k in range(atlas.num_charts):
        rows = (~(weights[:, k].abs() <= 1e-6)).nonzero().squeeze(1)  # NaN has to show
        if len(rows):
            energy = atlas.energy(x[rows], k, noise[rows]) - atlas.log_weights[k]
            total = total + (weights[rows, k] * energy).sum()
    return total / len(x)


def lipschitz_penalty(atlas: Atlas, latent: Tensor, noise: Tensor) -> Tensor:
    """Mean over charts and latent points of |D_k(z) - D_k(z + sigma_z noise)|^2 / sigma_x^2."""
    config = atlas.settings
    total = latent.new_zeros(())
    for k in range(atlas.num_charts):
        moved = atlas.decode_chart(torch.cat([latent, latent + config.sigma_z * noise]), k)
        here, there = moved.chunk(2)
        total = total + (here - there).flatten(1).square().sum(dim=1).mean()
    return total / (atlas.num_charts * config.sigma_x**2)


def hidden_penalty(atlas: Atlas, latent: Tensor) -> Tensor:
    """Mean over charts and latent points of |s a|^2 / (2 sigma_x^2), see :meth:`Chart.hidden`."""
    total = latent.new_zeros(())
    for k in range(atlas.num_charts):
        chart, flow = atlas.pair(k)
        # the flow has no part in it: it could make the penalty small by mapping all samples to one
        hidden = chart.hidden(flow.forward(latent).detach())
        total = total + hidden.square().sum(dim=1).mean()
    return total / (atlas.num_charts * 2 * atlas.settings.sigma_x**2)


@torch.no_grad()
def overlap_weights(atlas: Atlas, x: Tensor, stretch: float) -> Tensor:
    """Responsibilities ``(B, K)`` that let neighbouring charts share their border regions.

    One chart at a time sees its latent density at stretched coordinates, so that only its interior counts as
    its own and others take over its border; each chart keeps the largest responsibility it gets.
    """
    plain = atlas.energies(x)
    best = torch.zeros_like(plain)
    for k in range(atlas.num_charts):
        energies = plain.clone()
        energies[:, k] = atlas.energy(x, k, stretch=stretch)
        best = torch.maximum(best, (atlas.log_weights - energies).softmax(dim=1))
    return best / best.sum(dim=1, keepdim=True)
