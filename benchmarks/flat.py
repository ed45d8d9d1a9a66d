"""What flat autoencoders keep of distances and of straightness: ``python benchmarks/flat.py [PART]``.

Parts, each a table (``--data`` chooses sundial, rotating-object or torus-disk):

- ``pairs``: first and second difference quotients p, b on held-out pairs;
- ``settle``: encoders learned with eps halved three times, and how far each is from the one before;
- ``bending``: encoders learned without and with more and more weight of the bending, from random weights;
- ``start``: encoders that start from classical scaling and from random weights;
- ``interpolation``: the decoded middle of two codes against the middle of the true geodesic, by distance,
  beside a plain autoencoder's with the same networks and as many steps;
- ``graph``: distances and midpoints of graphs of neighbours against the exact ones.

``far p`` is the least quotient of distances of all pairs at least 1 apart: near 0 where the encoder maps
distant points to one code. Autoencoders are those of the shipped recipes: pretrained with no ``--steps``,
else trained for as many steps. Where encoders are compared (``settle``, ``bending``, ``start``) they are
trained alone, for ``--steps``.
"""

from __future__ import annotations

import argparse
from dataclasses import replace
from tempfile import TemporaryDirectory

import torch
from torch import Tensor

from onmanifold import load_prior
from onmanifold.pretrained import prior_names
from onmanifold.priors.autoencoder import Autoencoder
from onmanifold.priors.datasets import GeodesicDataset, stream
from onmanifold.priors.flat import GeodesicPairs, GraphPairs
from onmanifold.priors.flat.embedding import FlatSchedule, quotients
from onmanifold.priors.training.recipe import Recipe
from onmanifold.priors.training.run import train

NAMES = ["sundial", "torus-disk", "rotating-object"]
DISTANCES = (0.25, 0.5, 1.0, 1.5, 2.0, 2.5)
LEVELS = torch.tensor([0.01, 0.05, 0.5, 0.95, 0.99])


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
        prior = train(recipe, folder, progress=False)
    assert isinstance(prior, Autoencoder)
    return prior


def encoder_alone(name: str, steps: int | None, **changes: float) -> Autoencoder:
    """The recipe's encoder, with changes to its loss or to ``start``; the decoder learns nothing."""
    recipe = Recipe.read(name)
    encoder = steps or recipe.schedule["encoder"]
    schedule = recipe.schedule | {"encoder": encoder, "length": encoder + 1, "examples": 2000}
    if "start" in changes:
        schedule["start"] = changes.pop("start")
    return trained(replace(recipe, schedule=schedule, loss=recipe.loss | changes))


def flat(name: str, steps: int | None) -> Autoencoder:
    """The flat autoencoder: pretrained, if there is one and no other number of steps is asked for."""
    if steps is None and name in prior_names():
        prior = load_prior(name)
        assert isinstance(prior, Autoencoder)
        return prior
    return trained(shortened(name, steps))


def loaded(name: str) -> GeodesicDataset:
    """The recipe's data manifold."""
    data = Recipe.read(name).load_data()
    assert isinstance(data, GeodesicDataset)
    return data


@torch.no_grad()
def measured(prior: Autoencoder, data: GeodesicDataset, eps: float) -> tuple[Tensor, Tensor]:
    """Quotients p and ``|b|^2`` on 5000 held-out pairs."""
    pairs = GeodesicPairs(data, eps).draw(5000, stream(0, "held-out"))
    p, b = quotients(prior.encoder, pairs)
    return p, b.square().sum(dim=1)


@torch.no_grad()
def far_quotient(prior: Autoencoder, data: GeodesicDataset) -> float:
    """Least p of all pairs of 1000 held-out points that are at least 1 apart."""
    x, at = data.sample(1000, stream(0, "held-out"))
    i, j = torch.triu_indices(len(x), len(x), offset=1)
    codes, distance = prior.encoder(x), data.distance_between(at[i], at[j])
    far = distance >= 1.0
    return float(((codes[i] - codes[j]).norm(dim=1) / distance)[far].min())


def row(prior: Autoencoder, data: GeodesicDataset, eps: float) -> str:
    """Share of p within 1 +- 0.1, its quantiles, mean distortion, mean ``|b|^2``; least p of far pairs."""
    p, b = measured(prior, data, eps)
    within = ((p - 1).abs() <= 0.1).double().mean()
    distortion = (p.square() + p.square().reciprocal() - 2).mean()
    levels = " ".join(f"{level:6.3f}" for level in p.quantile(LEVELS))
    far = far_quotient(prior, data)
    return f"{within:10.1%}   {levels}   {distortion:10.5f} {b.mean():10.4f} {far:7.3f}"


HEAD = "within 0.1   p: 1 %    5 %   50 %   95 %   99 %   distortion   mean b^2   far p"


def show_pairs(name: str, steps: int | None) -> None:
    """Quotients on held-out pairs, at the recipe's eps and closer."""
    prior, data, eps = flat(name, steps), loaded(name), Recipe.read(name).loss["eps"]
    print(f"{name}\n     eps   {HEAD}")
    for each in (eps, eps / 4):
        print(f"{each:8.3f} {row(prior, data, each)}")


def show_settling(name: str, steps: int | None) -> None:
    """Encoders for smaller and smaller eps, all compared at the smallest."""
    data, loss = loaded(name), Recipe.read(name).loss
    bending, eps = loss["bending"], loss["eps"]
    x = data.sample(2000, stream(0, "held-out"))[0]
    before: Tensor | None = None
    print(
        f"{name}: all measured on pairs at most {eps / 8:.4g} apart; change: from the encoder before"
    )
    print(f"     eps   {HEAD}       loss     change")
    for each in (eps, eps / 2, eps / 4, eps / 8):
        prior = encoder_alone(name, steps, eps=each)
        p, b = measured(prior, data, eps / 8)
        loss = (p.square() + p.square().reciprocal() - 2 + bending * b).mean()
        codes = prior.encoder(x)
        change = "" if before is None else f"{aligned_distance(codes, before):10.4f}"
        print(f"{each:8.4f} {row(prior, data, eps / 8)} {loss:10.5f} {change}", flush=True)
        before = codes


def aligned_distance(codes: Tensor, others: Tensor) -> float:
    """Root mean square distance after the best rigid motion, as a share of the spread (Procrustes)."""
    codes, others = codes - codes.mean(dim=0), others - others.mean(dim=0)
    u, _, vh = torch.linalg.svd(codes.T @ others)
    return float((codes @ (u @ vh) - others).norm() / others.norm())


def show_bending(name: str, steps: int | None) -> None:
    """Encoders for several weights of the bending, from random weights.

    Where they start from classical scaling they hardly bend to begin with, and stay so.
    """
    data, loss = loaded(name), Recipe.read(name).loss
    eps, chosen = loss["eps"], loss["bending"]
    print(f"{name}\n  lambda   {HEAD}")
    for weight in (0.0, chosen / 10, chosen, 10 * chosen):
        prior = encoder_alone(name, steps, bending=weight, start=0.0)
        print(f"{weight:8.4f} {row(prior, data, eps)}", flush=True)


def show_start(name: str, steps: int | None) -> None:
    """Encoders that start from classical scaling, and from random weights."""
    data, recipe = loaded(name), Recipe.read(name)
    print(f"{name}\n   start   {HEAD}")
    for start in (recipe.schedule.get("start", FlatSchedule.start), 0.0):
        prior = encoder_alone(name, steps, start=start)
        print(f"{start:8.2f} {row(prior, data, recipe.loss['eps'])}", flush=True)


@torch.no_grad()
def interpolation_errors(prior: Autoencoder, data: GeodesicDataset, distance: float) -> Tensor:
    """Error of the decoded middle of codes of points so far apart, as a share of the spread, ``(n,)``."""
    a = data.sample(2000, stream(0, "held-out", 0))[1]
    b = data.sample(2000, stream(0, "held-out", 1))[1]
    apart = data.distance_between(a, b)
    rows = (apart >= distance).nonzero().squeeze(1)[:500]
    a, b = a[rows], data.geodesic(a[rows], b[rows], distance / apart[rows, None])
    truth = data.render(data.average(a, b)).flatten(1)
    middle = (prior.encoder(data.render(a)) + prior.encoder(data.render(b))) / 2
    x = prior.decoder(middle).flatten(1)
    spread = (truth - truth.mean(dim=0)).norm(dim=1).mean()
    error: Tensor = (x - truth).norm(dim=1) / spread
    return error


def within_reach(data: GeodesicDataset) -> list[float]:
    """The distances that at least 50 of 2000 held-out pairs are apart."""
    a, b = (data.sample(2000, stream(0, "held-out", index))[1] for index in (0, 1))
    apart = data.distance_between(a, b)
    return [distance for distance in DISTANCES if int((apart >= distance).sum()) >= 50]


def show_interpolation(name: str, steps: int | None) -> dict[str, list[float]]:
    """Errors of the flat and of a plain autoencoder by distance; the medians."""
    data, recipe = loaded(name), shortened(name, steps)
    schedule = {
        key: value for key, value in recipe.schedule.items() if key not in ("encoder", "start")
    }
    model = {key: value for key, value in recipe.model.items() if key != "tube"}
    plain = trained(replace(recipe, method="ae", schedule=schedule, loss={}, model=model))
    priors = {"flat": flat(name, steps), "ae": plain}
    found: dict[str, list[float]] = {each: [] for each in priors}
    print(
        f"{name}: median and 95 % of |decoded middle - true middle|, as a share of the pictures' spread"
    )
    print("distance        flat              ae        flat / ae")
    for distance in within_reach(data):
        cells = []
        for each, prior in priors.items():
            error = interpolation_errors(prior, data, distance)
            found[each].append(float(error.median()))
            cells.append(f"{error.median():8.4f} {error.quantile(0.95):8.4f}")
        ratio = found["flat"][-1] / found["ae"][-1]
        print(f"{distance:8.2f} {'  '.join(cells)} {ratio:12.2f}")
    return found


def show_graph(name: str, _: int | None) -> None:
    """Distances and midpoints of graphs of neighbours, for several numbers of examples.

    The graph measures in the pictures' space and the formulas on the manifold, so that distances are compared
    up to the one factor that fits best, the median of their quotients; on the torus it is the same for all.
    """
    data = loaded(name)
    print(f"{name}: graphs against formulas, medians; midpoints are off by a share of the distance")
    print("examples    k   pairs  distance off   midpoint off   mean distance")
    for n, k in ((1000, 16), (4000, 16), (4000, 32), (12000, 32)):
        x, coordinates = data.sample(n, stream(0, "seeding"))
        try:
            graph = GraphPairs(x, k)
        except ValueError:  # no way over several neighbours is straight
            print(f"{n:8d} {k:4d} {0:7d}  too few examples")
            continue
        a, b = coordinates[graph.start], coordinates[graph.end]
        exact = data.distance_between(a, b)
        quotient = graph.length / exact
        off = (quotient / quotient.median() - 1).abs().median()
        between = data.geodesic(a, b, graph.share[:, None])  # where the point should be
        aside = data.distance_between(coordinates[graph.between], between) / exact
        print(
            f"{n:8d} {k:4d} {len(graph):7d} {off:13.4f} {aside.median():14.4f} {exact.mean():15.3f}"
        )


def picture(found: dict[str, dict[str, list[float]]], file: str) -> None:
    """Errors of interpolation against distance, one plot a data manifold."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    figure, axes = pyplot.subplots(1, len(found), figsize=(4 * len(found), 3.2), squeeze=False)
    for axis, (name, errors) in zip(axes[0], found.items(), strict=True):
        for method, values in errors.items():
            axis.plot(DISTANCES[: len(values)], values, marker="o", label=method)
        axis.set(
            title=name, xlabel="distance of the ends", ylabel="error of the middle", ylim=(0, None)
        )
        axis.legend()
    figure.tight_layout()
    figure.savefig(file, dpi=120)


def main() -> None:
    """Print the table of a part."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parts = {
        "pairs": show_pairs,
        "settle": show_settling,
        "bending": show_bending,
        "start": show_start,
        "interpolation": show_interpolation,
        "graph": show_graph,
    }
    parser.add_argument("part", nargs="?", choices=parts, help="default: all")
    parser.add_argument("--data", choices=NAMES, action="append", help="default: all")
    parser.add_argument("--steps", type=int, help="train for so many steps, encoder and decoder")
    parser.add_argument("--picture", help="of the interpolation: file to draw it to")
    arguments = parser.parse_args()
    if arguments.picture and arguments.part != "interpolation":
        parser.error("--picture draws the part interpolation")
    for each in [arguments.part] if arguments.part else parts:
        found = {name: parts[each](name, arguments.steps) for name in arguments.data or NAMES}
    if arguments.picture:
        picture(found, arguments.picture)


if __name__ == "__main__":
    main()
