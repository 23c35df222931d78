"""The HTML report: one file with its plots inside."""

from __future__ import annotations

import io
from typing import Any

from experiments.measure.flags import KINDS
from experiments.plan import FLOORS, IDENTITY
from experiments.report.terminal import bound, interval, points, worst

TEMPLATE = """<!doctype html><html lang="en"><meta charset="utf-8">
<meta name="viewport" content="width=device-width"><title>{{ title }}</title><style>
body{font:15px/1.5 system-ui,sans-serif;max-width:76rem;margin:2rem auto;padding:0 1rem;color:#1b1f24}
table{border-collapse:collapse;width:100%;font-size:13px;margin:1rem 0}
td,th{padding:.3rem .6rem;border-bottom:1px solid #d8dee4;text-align:left;vertical-align:top}
.n{text-align:right;font-variant-numeric:tabular-nums;white-space:nowrap}code{white-space:pre-wrap;word-break:break-word}
svg{max-width:100%;height:auto}tr.quiet{color:#6a737d}h2{margin-top:2.2rem}</style>
<h1>{{ title }}</h1><p><strong>{{ question }}</strong></p>
<p>F is the best teacher-free student, U the student of the undefended teacher, D that of the defended one;
T = (D−F)/(U−F) with its {{ level }} % Fieller set from the two-way (seed × item) variance.
{{ seeds }} seeds, {{ items }} items an exam. Fewer than five seeds carry no verdict. Where U−F is not measurably
above 0, T is <em>not measurable</em>.</p>
<h2>Transfer against what the honest user pays</h2>{{ frontier|safe }}
{% if budgets %}<h2>Capability against exchanges</h2>{{ budgets|safe }}
<p>Points are means with intervals over seeds and items; the first is the untrained student (n = 0), the grey line trains
on the attacker's own data. M is how many times more exchanges a capability takes, <em>&gt;</em> where the defended curve
never reached it.</p>
<table><tr><th>task<th>attacker<th>defence{% for l in ("25", "50", "75") %}<th class=n>M at {{ l }} %{% endfor %}
<th class=n>area between (points)</tr>{% for r in curved %}<tr><td>{{ r.task }}<td>{{ r.attacker }}<td>{{ r.defense }}
{% for m in r.multipliers %}<td class=n>{{ m.text }} [{{ bound(m.lo) }}, {{ bound(m.hi) }}]{% endfor %}
<td class=n>{{ points(r.area_between.value) }} [{{ points(r.area_between.lo) }}, {{ points(r.area_between.hi) }}]</tr>
{% endfor %}</table>{% endif %}
<h2>What each student learned</h2>{{ bars|safe }}
<h2>Verdicts</h2>
<table><tr><th>task<th class=n>budget<th>defence<th>attack<th class=n>T, worst case<th class=n>UCB<th class=n>teacher (points)
<th>verdict<th>rule<th>remarks<th>to settle</tr>{% for c in cases %}<tr{% if c.defense == identity %} class=quiet{% endif %}>
<td>{{ c.task }}<td class=n>{{ c.budget }}<td>{{ c.defense }}<td>{{ c.attack }}<td class=n>{{ worst(c) }}
<td class=n>{{ bound(c.ucb) }}<td class=n>{{ points(c.utility.change) }} [{{ points(c.utility.lo) }},
{{ points(c.utility.hi) }}]<td>{{ c.verdict or "-" }}<td>{{ c.rule }}<td>{{ c.remarks|join("; ") }}<td>{{ c.settle }}</tr>
{% endfor %}</table>
<p>The worst case is over the listed attacks, chosen on other seeds and items than those reported; UCB is the largest upper
bound of all of them.</p>
{% if flags %}<h2>Flags</h2><table><tr><th>flag<th>where<th>evidence<th>means<th>do</tr>{% for f in flags %}<tr>
<td>{{ f.flag }}<td>{{ f.where }}<td>{{ f.evidence }}<td>{{ kinds[f.flag].means }}<td>{{ kinds[f.flag].do }}</tr>
{% endfor %}</table>{% endif %}
<h2>The table</h2>
<table><tr>{% for h in heads %}
<th{% if loop.index > 3 and loop.index < 10 %} class=n{% endif %}>{{ h }}</th>{% endfor %}
</tr>{% for r in rows %}<tr{% if quiet(r) %} class=quiet{% endif %}><td>{{ r.task }}<td>{{ r.attacker }}
<td>{{ r.defense }}<td class=n>{{ points(r.floor) }}<td class=n>{{ points(r.undefended) }}
<td class=n>{{ points(r.defended) }}<td class=n>{{ interval(r) }}
<td class=n>{{ points(r.teacher_clean) }} → {{ points(r.teacher_defended) }}
<td class=n>{{ "-" if r.bits_per_byte is none else "%.3f"|format(r.bits_per_byte) }}
<td title="{{ r.rule }}">{{ r.verdict or "-" }}</tr>
{% endfor %}</table>
<p>Bits per byte: how well the student predicts the undefended teacher's text on the exam's prompts; lower is closer.
Point at a verdict to read the rule that gave it.</p>
{% if notes %}<ul>{% for note in notes %}<li>{{ note }}</li>{% endfor %}</ul>{% endif %}
<h2>Answers, clean and defended</h2>
<table><tr><th>task<th>defence<th>prompt<th>clean<th>defended</tr>{% for s in samples %}<tr>
<td>{{ s.task }}<td>{{ s.defense }}<td><code>{{ s.prompt }}</code><td><code>{{ s.clean }}</code>
<td><code>{{ s.defended }}</code></tr>{% endfor %}</table></html>"""
HEADS = (
    "task",
    "attacker",
    "defence",
    "floor %",
    "undefended %",
    "defended %",
    "T",
    "teacher %",
    "bits/byte",
    "verdict",
)


def render(study: Any, held: dict[str, Any], samples: list[dict[str, str]], notes: list[str]) -> str:
    """A self-contained page; the same measures give the same bytes."""
    from jinja2 import Environment

    page = Environment(autoescape=True).from_string(TEMPLATE)
    return page.render(
        title=f"Distillation resistance: {study.name}", question=study.question, rows=held["rows"], samples=samples,
        seeds=len(study.seeds), items=study.measure.items, heads=HEADS, points=points, interval=interval, notes=notes,
        level=f"{100 * (1 - study.measure.alpha):g}", quiet=_is_control, frontier=svg(frontier(held)),
        bars=svg(bars(held["rows"])), cases=held["cases"], identity=IDENTITY, flags=held["flags"], kinds=KINDS,
        budgets=svg(curves(held)) if held["curves"] else "", bound=bound, worst=worst,
        curved=[row for row in held["curves"] if "multipliers" in row],
    )  # fmt: skip


def _is_control(row: dict[str, Any]) -> bool:
    return row["attacker"] in FLOORS or row["defense"] == IDENTITY


def _figure(width: float, height: float) -> Any:
    import matplotlib

    matplotlib.use("Agg")
    matplotlib.rcParams["svg.hashsalt"] = "distill-resist"
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), layout="constrained")


def svg(figure: Any) -> str:
    """A figure as SVG; the same figure gives the same bytes."""
    buffer = io.StringIO()
    figure.savefig(buffer, format="svg", metadata={"Date": None})
    return buffer.getvalue()[buffer.getvalue().index("<svg") :]


def frontier(held: dict[str, Any]) -> Any:
    """Transfer against what the honest user loses, a panel a task; below and to the left is better for the provider.

    Where budgets are an axis, the largest is drawn.
    """
    most = {task: max(r["budget"] for r in held["rows"] if r["task"] == task) for task in {r["task"] for r in held["rows"]}}
    rows = [row for row in held["rows"] if row["budget"] == most[row["task"]]]
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    arms = list(dict.fromkeys((r["defense"], r["attacker"]) for r in rows if not _is_control(r)))
    figure = _figure(11, 4.2)
    panels = figure.subplots(1, len(tasks), squeeze=False, sharey=True)[0]
    for axes, task in zip(panels, tasks, strict=True):
        axes.axhspan(0, 1, color="0.96", zorder=0)
        here = [r for r in rows if r["task"] == task and not _is_control(r) and r["transfer"] is not None]
        costs = [100 * (row["teacher_clean"] - row["teacher_defended"]) for row in here]
        low_x, high_x = min([-2.0, *costs]), max([10.0, *costs])
        step = (high_x - low_x) / 60  # points of equal cost stand side by side
        for i, (row, cost) in enumerate(zip(here, costs, strict=True)):
            number = arms.index((row["defense"], row["attacker"]))
            low, high = (
                row[end] if row[end] is not None else row["transfer"] for end in ("transfer_lo", "transfer_hi")
            )
            axes.errorbar(cost + step * (i - (len(here) - 1) / 2), row["transfer"],
                          [[row["transfer"] - low], [high - row["transfer"]]], capsize=3, color=f"C{number % 10}",
                          marker="os^Dv"[number % 5], linestyle="none", label=_name(row))  # fmt: skip
        axes.set(
            title=task, xlabel="teacher's loss under the defence (points)", xlim=(low_x - 4 * step, high_x + 4 * step)
        )
    panels[0].set_ylabel("transfer T (1: all, 0: none)")
    held = {label: handle for axes in panels for handle, label in zip(*axes.get_legend_handles_labels(), strict=True)}
    if held:
        figure.legend(held.values(), held.keys(), fontsize=8, loc="outside right upper", frameon=False)
    return figure


def curves(held: dict[str, Any]) -> Any:
    """Accuracy against exchanges with intervals, a panel a task and attacker."""
    panels = list(dict.fromkeys((row["task"], row["attacker"]) for row in held["curves"]))
    figure = _figure(11, 4.2)
    for axes, at in zip(figure.subplots(1, len(panels), squeeze=False, sharey=True)[0], panels, strict=True):
        here = [row for row in held["curves"] if (row["task"], row["attacker"]) == at]
        budgets = here[0]["budgets"]
        axes.plot(budgets, [100 * v for v in here[0]["own_data"]], color="0.6", linestyle=":", label=FLOORS[1])
        axes.axhline(100 * here[0]["zero"], color="black", linewidth=0.8, linestyle="--", label="n = 0")
        for i, row in enumerate(here):
            errors = [[100 * (v - lo) for v, lo in zip(row["values"], row["lo"], strict=True)],
                      [100 * (hi - v) for v, hi in zip(row["values"], row["hi"], strict=True)]]  # fmt: skip
            shift = 1.02 ** (i - (len(here) - 1) / 2)  # bars of one budget stand side by side
            axes.errorbar([n * shift for n in row["budgets"]], [100 * v for v in row["values"]], errors, capsize=2,
                          marker="os^Dv"[i % 5], markersize=4, label=row["defense"], color=f"C{i % 10}")  # fmt: skip
        axes.set_xscale("log")
        axes.set_xticks(budgets, [str(n) for n in budgets], minor=False)
        axes.minorticks_off()
        axes.set(title=f"{at[0]}, {at[1]}", xlabel="exchanges", ylim=(-3, 103))
    figure.axes[0].set_ylabel("student accuracy (%)")
    figure.legend(*figure.axes[0].get_legend_handles_labels(), fontsize=8, loc="outside right upper", frameon=False)
    return figure


def bars(rows: list[dict[str, Any]]) -> Any:
    """Accuracy of each student per capability, beside the floor."""
    tasks = list(dict.fromkeys(row["task"] for row in rows))
    most = max(sum(row["task"] == task for row in rows) for task in tasks)
    figure = _figure(11, 1.2 + 0.24 * most)
    for axes, task in zip(figure.subplots(1, len(tasks), squeeze=False)[0], tasks, strict=True):
        here = [row for row in rows if row["task"] == task][::-1]
        colours = ["0.7" if _is_control(r) else "C0" if r["defense"] == "none" else "C1" for r in here]
        low, high = ([100 * abs(r["defended"] - (r["defended"] if r[end] is None else r[end])) for r in here]
                     for end in ("defended_lo", "defended_hi"))  # fmt: skip
        axes.barh([_name(r) for r in here], [100 * r["defended"] for r in here], xerr=[low, high], color=colours,
                  error_kw={"elinewidth": 0.8, "capsize": 2})  # fmt: skip
        axes.axvline(100 * here[0]["floor"], color="black", linestyle=":", linewidth=1)
        axes.set(title=task, xlabel="student accuracy (%); dotted: floor", xlim=(0, 100))
        axes.tick_params(axis="y", labelsize=8)
    return figure


def _name(row: dict[str, Any]) -> str:
    return row["attacker"] if row["attacker"] in FLOORS else f"{row['defense']} ({row['attacker']})"
