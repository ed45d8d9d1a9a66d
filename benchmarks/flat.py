"""What flat autoencoders keep of distances and of straightness: ``python benchmarks/flat.py [PART]``.

Parts, each a table (``--data`` chooses sundial, rotating-object or torus-disk):

- ``pairs``: first and second difference quotients p, b on held-out pairs, at the recipe's eps and closer;
- ``convergence``: encoders learned with eps halved three times, measured on the closest pairs; *change* is
  the distance to the encoder before;
- ``bending``: encoders learned without and with more and more weight of the bending, from random weights
  (where they start from classical scaling they hardly bend to begin with, and stay so);
- ``start``: encoders that start from classical scaling and from random weights;
- ``interpolation``: the decoded middle of two codes against the middle of the true geodesic, by distance,
  beside a plain autoencoder's with the same networks and as many steps; errors are shares of the spread;
- ``graph``: distances and midpoints of graphs of neighbours against the exact ones, medians.

``far p`` is the least quotient of distances of all pairs at least 1 apart: near 0 where the encoder maps
distant points to one code. Autoencoders are those of the shipped recipes: pretrained with no ``--steps``,
else trained for as many steps. Where encoders are compared (``convergence``, ``bending``, ``start``) they are
trained alone, for ``--steps``.
"""

from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Annotated

import torch
import typer
from torch import Tensor

from onmanifold import load_prior
from onmanifold.priors.autoencoder import Autoencoder
from onmanifold.priors.datasets import GeodesicDataset, stream
from onmanifold.priors.flat import GeodesicPairs, GraphPairs
from onmanifold.priors.flat.embedding import FlatSchedule, quotients
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train
from shared.options import one_of
from shared.tables import Table

NAMES = ("sundial", "torus-disk", "rotating-object")
DISTANCES = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5)
LEVELS = {"p: 1 %": 0.01, "5 %": 0.05, "50 %": 0.5, "95 %": 0.95, "99 %": 0.99}
COLUMNS = {
    "within 0.1": ".1%",
    **dict.fromkeys(LEVELS, ".3f"),
    "distortion": ".5f",
    "mean b^2": ".4f",
    "far p": ".3f",
}


def shortened(name: str, steps: int | None) -> Recipe:
    """The shipped recipe, with another number of steps and as large a share of them for the encoder."""
    recipe = Recipe.read(name)
    if steps is None:
        return recipe
    share = recipe.schedule["encoder"] / recipe.schedule["length"]
    schedule = recipe.schedule | {"length": steps, "encoder": max(1, int(share * steps))}
    return replace(recipe, schedule=schedule)


def trained(recipe: Recipe) -> Autoencoder:
    """What a recipe trains."""
    with TemporaryDirectory() as folder:
        return train(recipe, folder, progress=False)


def encoder_alone(name: str, steps: int | None, **changes: float) -> Autoencoder:
    """The recipe's encoder, with changes to its loss or to ``start``; the decoder learns nothing."""
    recipe = Recipe.read(name)
    encoder = steps or recipe.schedule["encoder"]
    schedule = recipe.schedule | {"encoder": encoder, "length": encoder + 1, "examples": 2000}
    if "start" in changes:
        schedule["start"] = changes.pop("start")
    return trained(replace(recipe, schedule=schedule, loss=recipe.loss | changes))


def flat(name: str, steps: int | None) -> Autoencoder:
    """The flat autoencoder: pretrained, if no other number of steps is asked for."""
    return load_prior(name) if steps is None else trained(shortened(name, steps))


def loaded(name: str) -> GeodesicDataset:
    """The recipe's data manifold."""
    return Recipe.read(name).load_data()


@torch.no_grad()
def measured(prior: Autoencoder, data: GeodesicDataset, eps: float) -> tuple[Tensor, Tensor]:
    """Quotients p and ``|b|^2`` on 5000 held-out pairs."""
    pairs = GeodesicPairs(data, eps).draw(5000, stream(0, "held-out"))
    p, b = quotients(prior.encoder, pairs)
    return p, b.square().sum(dim=1)


@torch.no_grad()
def figures(prior: Autoencoder, data: GeodesicDataset, eps: float) -> list[Tensor]:
    """Share of p within 1 +- 0.1, its quantiles, mean distortion, mean ``|b|^2``; least p of far pairs."""
    p, b = measured(prior, data, eps)
    within = ((p - 1).abs() <= 0.1).double().mean()
    distortion = (p.square() + p.square().reciprocal() - 2).mean()
    x, at = data.sample(1000, stream(0, "held-out"))
    i, j = torch.triu_indices(len(x), len(x), offset=1)
    codes, distance = prior.encoder(x), data.distance_between(at[i], at[j])
    far = ((codes[i] - codes[j]).norm(dim=1) / distance)[distance >= 1.0].min()
    levels = p.quantile(torch.tensor(list(LEVELS.values())))
    return [within, *levels, distortion, b.mean(), far]


def show_pairs(name: str, steps: int | None) -> None:
    """Quotients on held-out pairs."""
    prior, data, eps = flat(name, steps), loaded(name), Recipe.read(name).loss["eps"]
    table = Table({"eps": ".3f"} | COLUMNS)
    for each in (eps, eps / 4):
        table.row(each, *figures(prior, data, each))


def show_convergence(name: str, steps: int | None) -> None:
    """Encoders for smaller and smaller eps."""
    data, loss = loaded(name), Recipe.read(name).loss
    bending, eps = loss["bending"], loss["eps"]
    x, before = data.sample(2000, stream(0, "held-out"))[0], None
    print(f"all measured on pairs at most {eps / 8:.4g} apart")
    table = Table({"eps": ".4f"} | COLUMNS | {"loss": ".5f", "change": ".4f"})
    for each in (eps, eps / 2, eps / 4, eps / 8):
        prior = encoder_alone(name, steps, eps=each)
        p, b = measured(prior, data, eps / 8)
        loss = (p.square() + p.square().reciprocal() - 2 + bending * b).mean()
        codes = prior.encoder(x)
        change = "" if before is None else aligned_distance(codes, before)
        table.row(each, *figures(prior, data, eps / 8), loss, change)
        before = codes


def aligned_distance(codes: Tensor, others: Tensor) -> float:
    """Root mean square distance after the best rigid motion, as a share of the spread (Procrustes)."""
    codes, others = codes - codes.mean(dim=0), others - others.mean(dim=0)
    u, _, vh = torch.linalg.svd(codes.T @ others)
    return float((codes @ (u @ vh) - others).norm() / others.norm())


def show_bending(name: str, steps: int | None) -> None:
    """Encoders for several weights of the bending, from random weights."""
    data, loss = loaded(name), Recipe.read(name).loss
    table = Table({"lambda": ".4f"} | COLUMNS)
    for weight in (0.0, *(factor * loss["bending"] for factor in (0.1, 1, 10))):
        prior = encoder_alone(name, steps, bending=weight, start=0.0)
        table.row(weight, *figures(prior, data, loss["eps"]))


def show_start(name: str, steps: int | None) -> None:
    """Encoders that start from classical scaling, and from random weights."""
    data, recipe = loaded(name), Recipe.read(name)
    table = Table({"start": ".2f"} | COLUMNS)
    for start in (recipe.schedule.get("start", FlatSchedule.start), 0.0):
        prior = encoder_alone(name, steps, start=start)
        table.row(start, *figures(prior, data, recipe.loss["eps"]))


def end_points(data: GeodesicDataset) -> tuple[Tensor, Tensor, Tensor]:
    """Coordinates of 2000 held-out pairs, and how far they are apart."""
    a, b = (data.sample(2000, stream(0, "held-out", index))[1] for index in (0, 1))
    return a, b, data.distance_between(a, b)


@torch.no_grad()
def interpolation_errors(prior: Autoencoder, data: GeodesicDataset, distance: float) -> Tensor:
    """Error of the decoded middle of codes of points so far apart, as a share of the spread, ``(n,)``."""
    a, b, apart = end_points(data)
    rows = (apart >= distance).nonzero().squeeze(1)[:500]
    a, b = a[rows], data.geodesic(a[rows], b[rows], distance / apart[rows, None])
    truth = data.render(data.average(a, b)).flatten(1)
    middle = (prior.encoder(data.render(a)) + prior.encoder(data.render(b))) / 2
    x = prior.decoder(middle).flatten(1)
    spread = (truth - truth.mean(dim=0)).norm(dim=1).mean()
    return (x - truth).norm(dim=1) / spread


def show_interpolation(name: str, steps: int | None) -> dict[str, list[float]]:
    """Errors of the flat and of a plain autoencoder by distance; the medians."""
    data, recipe = loaded(name), shortened(name, steps)
    schedule = {k: v for k, v in recipe.schedule.items() if k not in ("encoder", "start")}
    model = {k: v for k, v in recipe.model.items() if k != "tube"}
    plain = trained(replace(recipe, method="ae", schedule=schedule, loss={}, model=model))
    priors = {"flat": flat(name, steps), "ae": plain}
    medians: dict[str, list[float]] = {each: [] for each in priors}
    levels = dict.fromkeys(
        [f"{each}, {level}" for each in priors for level in (".5", ".95")], ".4f"
    )
    table = Table({"distance": ".2f"} | levels | {"flat / ae": ".2f"})
    apart = end_points(data)[2]
    for distance in (d for d in DISTANCES if int((apart >= d).sum()) >= 50):
        errors = {each: interpolation_errors(p, data, distance) for each, p in priors.items()}
        for each, error in errors.items():
            medians[each].append(float(error.median()))
        cells = [q for e in errors.values() for q in (e.median(), e.quantile(0.95))]
        table.row(distance, *cells, medians["flat"][-1] / medians["ae"][-1])
    return medians


def show_graph(name: str, _: int | None) -> None:
    """Distances and midpoints of graphs of neighbours, for several numbers of examples.

    The graph measures in the images' space and the formulas on the manifold, so that distances are compared
    up to the one factor that fits best, the median of their quotients; on the torus it is the same for all.
    Midpoints are off by a share of the distance.
    """
    data = loaded(name)
    offs = {"distance off": ".4f", "midpoint off": ".4f", "mean distance": ".3f"}
    table = Table({"examples": "d", "k": "d", "pairs": "7d"} | offs)
    for n, k in ((1000, 16), (4000, 16), (4000, 32), (12000, 32)):
        x, coordinates = data.sample(n, stream(0, "seeding"))
        try:
            graph = GraphPairs(x, k)
        except ValueError:  # no path over several neighbours is straight
            table.row(n, k, 0, "too few", "", "")
            continue
        a, b = coordinates[graph.start], coordinates[graph.end]
        exact = data.distance_between(a, b)
        quotient = graph.length / exact
        off = (quotient / quotient.median() - 1).abs().median()
        between = data.geodesic(a, b, graph.share[:, None])  # where the point should be
        aside = data.distance_between(coordinates[graph.between], between) / exact
        table.row(n, k, len(graph), off, aside.median(), exact.mean())


PARTS = {
    "pairs": show_pairs,
    "convergence": show_convergence,
    "bending": show_bending,
    "start": show_start,
    "interpolation": show_interpolation,
    "graph": show_graph,
}


def draw(found: dict[str, dict[str, list[float]]], file: Path) -> None:
    """Errors of interpolation against distance, one plot for each data manifold."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(4 * len(found), 3.2), layout="tight")
    panels = figure.subplots(1, len(found), squeeze=False)[0]
    for axes, (name, errors) in zip(panels, found.items(), strict=True):
        for method, values in errors.items():
            axes.plot(DISTANCES[: len(values)], values, marker="o", label=method)
        labels = {"xlabel": "distance of the end points", "ylabel": "error of the middle"}
        axes.set(title=name, ylim=(0, None), **labels)
        axes.legend()
    figure.savefig(file, dpi=120)


DataName = one_of(NAMES)
Part = one_of(PARTS)


def main(
    part: Annotated[Part | None, typer.Argument()] = None,
    data: list[DataName] = tuple(DataName),
    steps: int | None = None,
    figure: Path | None = None,
) -> None:
    """Print the table of a part, by default all; the figure is that of the interpolation."""
    for each in [part] if part else PARTS:
        found = {}
        for name in data:
            print(f"\n{each}, {name}")
            found[name] = PARTS[each](name, steps)
        if figure and each == "interpolation":
            draw(found, figure)


if __name__ == "__main__":
    typer.run(main)
