"""The HTML report: one file with its plots inside."""

from __future__ import annotations

import io
from typing import Any

from experiments.report.terminal import interval, points

TEMPLATE = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{{ title }}</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:72rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%;font-size:13px}td,th{padding:.3rem .5rem;border-bottom:1px solid #d8dee4;
text-align:left}td.n{text-align:right;font-variant-numeric:tabular-nums}code{white-space:pre-wrap}svg{max-width:100%;
height:auto}</style><h1>{{ title }}</h1><p>{{ question }}</p>
<p>F is the best teacher-free student, U the student of the undefended teacher, D that of the defended one;
T = (D−F)/(U−F) with its 95 % Fieller set. {{ seeds }} seeds, {{ items }} items.
Fewer than five seeds carry no verdict.</p>
{{ frontier|safe }}{{ bars|safe }}
<table><tr>{% for h in heads %}<th>{{ h }}</th>{% endfor %}</tr>
{% for r in rows %}<tr><td>{{ r.task }}<td>{{ r.attacker }}<td>{{ r.defense }}<td class=n>{{ points(r.floor) }}
<td class=n>{{ points(r.undefended) }}<td class=n>{{ points(r.defended) }}<td class=n>{{ interval(r) }}
<td class=n>{{ points(r.teacher_clean) }} → {{ points(r.teacher_defended) }}
<td title="{{ r.rule }}">{{ r.verdict }}</tr>
{% endfor %}</table><h2>Answers, clean and defended</h2>
<table><tr><th>task<th>defence<th>prompt<th>clean<th>defended</tr>{% for s in samples %}<tr>
<td>{{ s.task }}<td>{{ s.defense }}<td><code>{{ s.prompt }}</code><td><code>{{ s.clean }}</code>
<td><code>{{ s.defended }}</code></tr>{% endfor %}</table></html>"""


def render(study: Any, rows: list[dict[str, Any]], samples: list[dict[str, str]]) -> str:
    """A self-contained page; the same rows give the same bytes."""
    from jinja2 import Environment

    heads = ("task", "attacker", "defence", "floor %", "undefended %", "defended %", "T [95 %]", "teacher %", "verdict")
    page = Environment(autoescape=True).from_string(TEMPLATE)
    return page.render(
        title=f"Distillation resistance: {study.name}", question=study.question, rows=rows, samples=samples,
        seeds=len(study.seeds), items=study.measure.items, heads=heads, points=points, interval=interval,
        frontier=_frontier(rows), bars=_bars(rows),
    )  # fmt: skip


def _figure(width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "distill-resist"
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def _svg(figure: Any) -> str:
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def _frontier(rows: list[dict[str, Any]]) -> str:
    """Transfer against what the honest user loses; below and to the left is better for the provider."""
    figure = _figure(9, 4.5)
    axes = figure.subplots()
    shown = [r for r in rows if r["transfer"] is not None and not r["attacker"].startswith("floor/")]
    for number, row in enumerate(shown):
        cost = 100 * (row["teacher_clean"] - row["teacher_defended"])
        ends = [row["transfer"] - (row["transfer_lo"] or 0), (row["transfer_hi"] or 0) - row["transfer"]]
        label = f"{row['task']}: {row['defense']} ({row['attacker']})"
        axes.errorbar(cost, row["transfer"], [[max(e, 0)] for e in ends], fmt="o", label=label, color=f"C{number % 10}",
                      marker="os^D"[number // 10 % 4], capsize=3)  # fmt: skip
    axes.axhline(1, color="grey", linewidth=0.6)
    axes.axhline(0, color="grey", linewidth=0.6)
    axes.set(xlabel="teacher's loss under the defence (points)", ylabel="transfer T")
    if shown:
        axes.legend(fontsize=7, loc="center left", bbox_to_anchor=(1, 0.5))
    return _svg(figure)


def _bars(rows: list[dict[str, Any]]) -> str:
    """Accuracy of each student per capability, beside floor and undefended."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    figure = _figure(9, 0.6 + 0.28 * len(rows))
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        here = [row for row in rows if row["task"] == task][::-1]
        axes.barh([f"{r['defense']} ({r['attacker']})" for r in here], [100 * r["defended"] for r in here])
        axes.axvline(100 * here[0]["floor"], color="black", linestyle=":", linewidth=1)
        axes.set(title=task, xlabel="student accuracy (%); dotted: floor", xlim=(0, 100))
        axes.tick_params(axis="y", labelsize=7)
    return _svg(figure)
