"""The report of an atlas: its numbers, its figures, its command."""

import json
import math

import pytest
import torch
from analytic_priors import Affine, Analytic, Circle

from onmanifold import load_dataset, load_prior
from onmanifold.plot.style import colours
from onmanifold.pretrained import save_prior
from onmanifold.priors.atlas.report import AtlasReport
from onmanifold.priors.atlas.report_figures import figures, percent, write_report
from onmanifold.priors.commands import report_command

FIGURES = {"samples", "responsibilities", "overlap", "coverage", "distortion", "latent_usage"}


class Cloud:
    """Standard normal data of any shape, without a known distance."""

    def __init__(self, *x_shape):
        self.x_shape = x_shape

    def sample(self, n, generator):
        return torch.randn((n, *self.x_shape), generator=generator), torch.empty(n, 0)


class Images(Analytic):
    """Charts of images of 4 x 6: a few pixels each, the rest zero."""

    x_shape, num_charts, box = (1, 4, 6), 2, 3.0

    def __init__(self, dim):
        super().__init__(torch.float32)
        self.dim = dim

    def decode_chart(self, z, chart):
        x = z.new_zeros(len(z), 24)
        x = torch.cat([x[:, : chart * 12], z, x[:, chart * 12 + self.dim :]], dim=1)
        return x.view(-1, 1, 4, 6)

    def encode_chart(self, x, chart):
        return x.flatten(1)[:, chart * 12 : chart * 12 + self.dim]

    def responsibilities(self, x):
        return x.new_tensor([[0.6, 0.4]]).expand(len(x), 2)


@pytest.fixture(scope="module")
def circles():
    prior, data = load_prior("two-circles"), load_dataset("two-circles")
    card = {"name": "circles <&>", "description": "two of them", "sha256": "abc"}
    return AtlasReport(prior, data, card, samples=400)


def test_a_good_atlas_passes_every_check(circles):
    checks = {found.name: found for found in circles.findings()}
    assert all(check.passed is not False for check in checks.values())
    assert checks["data near the atlas"].passed and checks["atlas near the data"].passed
    assert checks["connected components"].value == "2, of charts 0 3 | 1 2"


def test_a_bad_atlas_fails_where_it_is_bad():
    class Elsewhere(Circle):
        """One chart is never used, and the encoder is not exact."""

        def decode_chart(self, z, chart):
            return super().decode_chart(z, chart) + 100 * chart

        def encode_chart(self, x, chart):
            return super().encode_chart(x - 100 * chart, chart) + 0.2

        def responsibilities(self, x):
            return x.new_tensor([[1.0, 0.0]]).expand(len(x), 2)

    data = load_dataset("two-circles")
    checks = {found.name: found for found in AtlasReport(Elsewhere(), data, samples=300).findings()}
    failed = {name for name, check in checks.items() if check.passed is False}
    assert failed >= {
        "data near the atlas",
        "atlas near the data",
        "dead charts",
        "codes outside the box",
        "|E(D(z)) - z|, as stored",
        "|E(D(z)) - z|, float64",
    }
    assert checks["dead charts"].value == "1"
    assert checks["connected components"].value == "2, of charts 0 | 1"


def test_numbers_are_plain_json_and_the_same_again(circles):
    numbers = json.loads(json.dumps(circles.as_dict(), allow_nan=False))
    assert numbers == circles.as_dict()
    assert numbers["overlap"]["components"] == [[0, 3], [1, 2]]
    assert len(numbers["charts"]) == 4
    assert sum(chart["examples"] for chart in numbers["charts"]) == numbers["samples"] == 400
    assert sum(chart["weight"] for chart in numbers["charts"]) == pytest.approx(1)
    again = AtlasReport(circles.prior, load_dataset("two-circles"), samples=400)
    assert again.as_dict()["coverage"] == numbers["coverage"]
    other = AtlasReport(circles.prior, load_dataset("two-circles"), samples=400, seed=1)
    assert other.as_dict()["coverage"] != numbers["coverage"]


def test_weights_are_those_of_the_samples_and_entropy_is_that_of_the_responsibilities():
    report = AtlasReport(Images(1), Cloud(1, 4, 6), samples=60)
    drawn = torch.bincount(Images(1).sample(10_000, 0).chart, minlength=2) / 10_000
    torch.testing.assert_close(report.weights, drawn)
    entropy = -(0.6 * math.log(0.6) + 0.4 * math.log(0.4))
    expected = torch.full((60,), entropy, dtype=torch.float64)
    torch.testing.assert_close(report.entropy, expected, rtol=1e-6, atol=0)


def test_numbers_and_figures_are_written(circles, tmp_path):
    files = write_report(circles, tmp_path)
    assert set(files) == {f"{name}.png" for name in FIGURES} | {"report.json"}
    assert json.loads((tmp_path / "report.json").read_text()) == circles.as_dict()
    assert all((tmp_path / f"{name}.png").read_bytes()[1:4] == b"PNG" for name in FIGURES)


def test_overlap_figure_shows_the_shares_component_by_component(circles):
    (ax,) = figures(circles)["overlap"].axes
    assert ax.get_title() == "overlap graph: 2 components"
    order = [0, 3, 1, 2]
    assert [label.get_text() for label in ax.get_xticklabels()] == [str(k) for k in order]
    shown = {tuple(map(int, text.get_position())): text.get_text() for text in ax.texts}
    for row, i in enumerate(order):
        for column, j in enumerate(order):
            assert shown[column, row] == percent(float(circles.shares[i, j]))


@pytest.mark.parametrize(
    ("prior", "data"),
    [
        (Images(1), Cloud(1, 4, 6)),
        (Images(3), Cloud(1, 4, 6)),
        (Affine(dim=2, size=3, box=2.0), Cloud(3)),
        (Affine(dim=3, size=6), Cloud(6)),
        (Affine(dim=20, size=24), Cloud(24)),
    ],
    ids=["images of a line", "images", "plane in space", "without a box", "of many dimensions"],
)
def test_every_kind_of_prior_can_be_drawn(prior, data, tmp_path):
    report = AtlasReport(prior, data, samples=60)
    write_report(report, tmp_path)
    alone = {"responsibilities", "overlap"} if prior.num_charts == 1 else set()
    drawn = figures(report)
    assert set(drawn) == FIGURES - alone
    codes = [ax for ax in drawn["latent_usage"].axes if ax.axison]
    assert len(codes) == prior.num_charts
    json.dumps(report.as_dict(), allow_nan=False)


def test_colours_of_many_charts_differ():
    for number in (1, 6, 20):
        assert len({str(colour) for colour in colours(number)}) == number


def test_percentages():
    shares = (0, 0.0004, 0.004, 0.0099, 0.5, 1)
    assert [percent(share) for share in shares] == [
        "·", "0.0 %", "0.4 %", "1 %", "50 %", "100 %"
    ]  # fmt: skip


def test_command_writes_a_folder_and_prints_the_numbers(tmp_path, capsys):
    report_command("sphere", samples=500, output=tmp_path / "sphere", seed=2)
    printed = capsys.readouterr().out
    assert "connected components" in printed and "1, of charts 0 1" in printed
    assert "report.json" in printed
    numbers = json.loads((tmp_path / "sphere" / "report.json").read_text())
    assert numbers["name"] == "sphere" and numbers["seed"] == 2 and len(numbers["sha256"]) == 64


def test_command_takes_a_folder_and_the_name_of_the_data(tmp_path):
    folder = tmp_path / "mine"
    save_prior(load_prior("two-circles"), folder, {"name": "mine"})
    with pytest.raises(ValueError, match="does not say what it learned: give --data"):
        report_command(str(folder), output=tmp_path / "out")
    report_command(str(folder), data="two-circles", samples=200, output=tmp_path / "out")
    assert json.loads((tmp_path / "out" / "report.json").read_text())["name"] == "mine"


@pytest.mark.parametrize(
    ("arguments", "error", "message"),
    [
        ({"prior": "spere"}, LookupError, "did you mean 'sphere'"),
        ({"prior": "sphere", "data": "torsu"}, LookupError, "did you mean 'torus'"),
        ({"prior": "sphere", "data": "ring"}, ValueError, r"shape \(2,\), the prior .* \(3,\)"),
        ({"prior": "sphere", "samples": 0}, ValueError, "samples has to be at least 1"),
    ],
)
def test_bad_input_is_refused_before_anything_is_written(arguments, error, message, tmp_path):
    with pytest.raises(error, match=message):
        report_command(**arguments, output=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_an_output_that_is_a_file_is_refused(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(FileExistsError, match="expected a folder"):
        report_command("sphere", output=tmp_path / "file")
