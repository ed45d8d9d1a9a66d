"""Where charts begin: centres spread over the data, and new ones for charts that died."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor, nn

from onmanifold.priors.atlas.atlas import Atlas
from onmanifold.priors.training.dimension import features


def spread_centres(points: Tensor, number: int, rounds: int = 20) -> Tensor:
    """``number`` centres ``(K, f)`` spread over ``points`` ``(n, f)``: farthest points, then k-means."""
    chosen = [int((points - points.mean(dim=0)).norm(dim=1).argmax())]
    for _ in range(number - 1):
        distance = torch.cdist(points, points[chosen]).amin(dim=1)
        chosen.append(int(distance.argmax()))
    centres = points[chosen]
    for _ in range(rounds):
        own = torch.cdist(points, centres).argmin(dim=1)
        centres = torch.stack([points[own == k].mean(dim=0) for k in range(number)])
    return centres


class Revival(nn.Module):
    """Finds dead charts and seeds them anew.

    A chart that explains hardly any example gets no gradient and stays where it is for good. It is given
    half of what the busiest chart explains: fresh weights, and for some steps those examples as its own.
    All state is in buffers, so checkpoints hold it and several processes share that of the first.

    Args:
        charts: number of charts K.
        size: length of the features of one example.
        share: a chart is dead below this part of an even share of the examples; 0: none ever is.
        steps: for how many steps a revived chart keeps its examples.
    """

    assigned: Tensor
    donor: Tensor
    until: Tensor
    halves: Tensor

    def __init__(self, charts: int, size: int, share: float, steps: int) -> None:
        super().__init__()
        self.share, self.steps = share, steps
        self.register_buffer("assigned", torch.zeros(charts))
        self.register_buffer("donor", torch.zeros(charts, dtype=torch.long))
        self.register_buffer("until", torch.zeros(charts, dtype=torch.long))
        self.register_buffer("halves", torch.zeros(charts, 2, size))

    def observe(self, owner: Tensor) -> None:
        """Count the best charts ``(B,)`` of some examples."""
        self.assigned += torch.bincount(owner, minlength=len(self.assigned))

    def dead(self) -> list[int]:
        """The charts that were assigned next to nothing since the last call; counting begins anew."""
        even = float(self.assigned.sum()) / len(self.assigned)
        few = (self.assigned < self.share * even).nonzero().squeeze(1)
        self.assigned.zero_()
        return [int(k) for k in few]

    @torch.no_grad()
    def revive(
        self, atlas: Atlas, chart: int, x: Tensor, step: int, seed: int
    ) -> list[nn.Parameter]:
        """Split the busiest chart's examples between it and ``chart``.

        Args:
            atlas: changed in place: ``chart`` gets fresh weights and half of the other's share.
            chart: number of the dead chart.
            x: examples ``(n, *x_shape)`` that show which chart is the busiest, and where.
            step: the present step of the run.
            seed: of the fresh weights.

        Returns:
            The parameters that are fresh.
        """
        owner = (atlas.energies(x) - atlas.log_weights).argmin(dim=1)
        donor = int(torch.bincount(owner, minlength=atlas.num_charts).argmax())
        self.halves[chart] = spread_centres(features(x[owner == donor]), 2)
        self.donor[chart], self.until[chart] = donor, step + self.steps
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(seed)
            fresh = Atlas(atlas.settings).to(x)
        for old, new in zip(atlas.pair(chart), fresh.pair(chart), strict=True):
            old.load_state_dict(new.state_dict())
        atlas.logits[donor] -= log(2)
        atlas.logits[chart] = atlas.logits[donor]
        return [parameter for part in atlas.pair(chart) for parameter in part.parameters()]

    def claim(self, weights: Tensor, x: Tensor, owner: Tensor, step: int) -> Tensor:
        """The weights ``(B, K)`` of a step, with the examples of revived charts theirs alone."""
        for k in (self.until > step).nonzero().squeeze(1).tolist():
            nearer = torch.cdist(features(x), self.halves[k]).argmin(dim=1) == 1
            mine = nearer & ((owner == self.donor[k]) | (owner == k))
            alone = torch.zeros_like(weights)
            alone[:, k] = 1
            weights = torch.where(mine[:, None], alone, weights)
        return weights
