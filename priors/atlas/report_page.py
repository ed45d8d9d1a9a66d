"""The page of an atlas report: one HTML file that needs nothing else."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from html import escape
from importlib.metadata import version
from typing import TYPE_CHECKING

from onmanifold.priors.atlas.diagnostics import INACTIVE, LINK
from onmanifold.priors.atlas.probes import deviation, quantiles

if TYPE_CHECKING:
    from onmanifold.priors.atlas.report import Report

CSS = """
body { font: 16px/1.5 system-ui, sans-serif; color: #222; max-width: 62rem; margin: 2rem auto;
  padding: 0 1rem }
h1 { margin-bottom: 0 } h2 { margin: 2.5rem 0 .3rem; border-bottom: 1px solid #ddd }
p { max-width: 46rem } p.about { margin-top: .2rem; color: #555 }
img { width: 100%; height: auto } small { color: #666; overflow-wrap: anywhere }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums }
th, td { padding: .2rem .8rem .2rem 0; text-align: left; border-bottom: 1px solid #eee }
th { font-weight: 600 } .charts td, .charts th { text-align: right }
.yes { color: #06763c } .no { color: #b3261e }
.yes, .no { font-weight: 600 }
"""

SECTIONS = {
    "samples": (
        "Samples by chart",
        "Every chart decodes its own latent box. Together the charts should cover what the held-out "
        "examples show, and none should leave it. Where colours mix, charts overlap.",
    ),
    "responsibilities": (
        "Responsibilities",
        "Which chart explains which example. Away from the borders one chart should explain an example "
        "alone (entropy 0, largest responsibility 1); an entropy of 0.69 means that two charts share it "
        "evenly. The weight of a chart is how often the atlas draws from it; it should agree with the "
        "chart's mean responsibility for the examples. A chart without either is dead.",
    ),
    "overlap": (
        "Overlap graph",
        "A node is a chart, its size the chart's weight. Two charts are linked if either reproduces at "
        "least {link:.0%} of the other's probability mass within {tolerance:.3g}, which is twice the "
        "atlas's own error (95th percentile of the held-out examples' distances to it). A link shows the "
        "larger of the two shares, the matrix both; a dot is nothing at all. A descent changes charts only "
        "where they overlap, so the components of this graph are those of the learned manifold.",
    ),
    "coverage": (
        "Coverage",
        "Left, the distance of held-out examples to the atlas: whether anything of the data is missing. "
        "{right} Distances to a chart are measured to D(E(x)), with the code inside the latent box. "
        "{tolerance_is}",
    ),
    "distortion": (
        "Distortion",
        "The singular values of the decoder's Jacobian J at samples of each chart: how far the decoded "
        "point moves for a unit step in the latent box. Boxes hold the middle half of the samples, "
        "whiskers or bands 90 %. The ratio of largest to smallest is 1 where a chart preserves angles; a "
        "large one slows gradient descent in the chart's coordinates. The log-volume says how unevenly the "
        "latent density is spread over the manifold.",
    ),
    "latent_usage": (
        "Use of the latent box",
        "Where the codes E(x) of the held-out examples lie, in the chart nearest to each{bars}; dashed: "
        "the box, which no descent leaves. Codes should fill it up to its border. Empty parts decode to "
        "what no example shows. A coordinate is unused if the codes make less than {collapsed:.0%} of the "
        "latent density's variance (posterior collapse), or if it does not move the decoded point.",
    ),
}


def page(report: Report, pictures: dict[str, bytes]) -> str:
    """The report as HTML.

    Args:
        report: what to show.
        pictures: PNG files of the figures, by name.
    """
    title = escape(f"Atlas report: {report.name}")
    sections = "".join(
        _section(report, name, picture) for name, picture in pictures.items() if name in SECTIONS
    )
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>{CSS}</style>
</head>
<body>
<h1>{title}</h1>
{_about(report)}
<h2>Summary</h2>
{_summary(report)}
<h2>Charts</h2>
{_charts(report)}
{sections}
</body>
</html>
"""


def _about(report: Report) -> str:
    about, prior = report.about, report.prior
    shape = " x ".join(map(str, prior.x_shape))
    facts = (
        f"{prior.num_charts} chart{'s' * (prior.num_charts > 1)} of dimension {prior.dim}, unknowns of shape "
        f"{shape}. Measured on {about['samples']} held-out examples of {about['data']} and as many samples "
        f"of the atlas, seed {about['seed']}, with onmanifold {version('onmanifold')}."
    )
    sha256 = f"<br><small>sha256 {escape(about['sha256'])}</small>" if "sha256" in about else ""
    description = escape(about.get("description", ""))
    return f'<p class="about">{description}</p>\n<p>{escape(facts)}{sha256}</p>'


def _summary(report: Report) -> str:
    marks = {True: ("yes", "pass"), False: ("no", "fail"), None: ("", "")}
    rows = [
        f"<tr><td>{escape(check.name)}</td><td>{escape(check.value)}</td>"
        f'<td>{escape(check.expected)}</td><td class="{kind}">{word}</td></tr>'
        for check in report.checks()
        for kind, word in [marks[check.passed]]
    ]
    return _table("", ("", "measured", "expected", ""), rows)


def _charts(report: Report) -> str:
    """A row of numbers for each chart."""
    head = (
        "chart", "weight", "responsibility", "examples", "codes outside", "unused coordinates",
        "J largest", "J smallest", "condition", "log-volume std",
    )  # fmt: skip
    rows = []
    for k, (own, bend) in enumerate(zip(report.usage, report.distortion, strict=True)):
        values = (bend.singular_values[:, 0], bend.singular_values[:, -1], bend.condition)
        cells = [
            str(k),
            f"{100 * float(report.responsibilities.weights[k]):.1f} %",
            f"{100 * float(report.responsibilities.usage[k]):.1f} %",
            str(len(own.codes)),
            f"{100 * own.outside:.2f} %",
            str(len(own.unused)),
            *(f"{float(quantiles(value, (0.5,))):.3g}" for value in values),
            f"{float(deviation(bend.log_volume)):.2f}",
        ]
        rows.append("<tr>" + "".join(f"<td>{escape(cell)}</td>" for cell in cells) + "</tr>")
    return _table("charts", head, rows) + "\n<p><small>Of J: medians over the samples.</small></p>"


def _table(kind: str, head: Sequence[str], rows: Iterable[str]) -> str:
    titles = "".join(f"<th>{escape(title)}</th>" for title in head)
    return f'<div class="wide"><table class="{kind}"><tr>{titles}</tr>\n{"\n".join(rows)}\n</table></div>'


def _section(report: Report, name: str, picture: bytes) -> str:
    title, text = SECTIONS[name]
    text = text.format(
        link=LINK,
        collapsed=INACTIVE,
        tolerance=report.overlap.tolerance,
        right=_right_of_coverage(report),
        tolerance_is=_tolerance_of_coverage(report),
        bars=" (lines 90 % of them, bars half, dots the median)" if report.prior.dim > 2 else "",
    )
    data = base64.b64encode(picture).decode()
    image = f'<img src="data:image/png;base64,{data}" alt="{escape(title)}">'
    return f"<h2>{escape(title)}</h2>\n<p>{escape(text)}</p>\n{image}\n"


def _right_of_coverage(report: Report) -> str:
    if report.coverage.to_data is None:
        return "Right, the same as a share of the example's norm."
    return "Right, the distance of samples of the atlas to the true manifold: whether it invents anything."


def _tolerance_of_coverage(report: Report) -> str:
    if report.coverage.tolerance is None:
        return ""
    return (
        f"The tolerance, {report.coverage.tolerance:.3g}, is three standard deviations of the data's noise "
        "and 0.02 diameters of the data; the titles say which share is within it."
    )
