"""The result card: what a reviewer asks, on one page, as JSON and as Markdown."""

from __future__ import annotations

from typing import Any

from experiments.config import Study, component
from experiments.measure import flags
from experiments.plan import FLOORS, IDENTITY
from experiments.report.terminal import bound, points, worst


def card(study: Study, held: dict[str, Any], manifest: dict[str, Any], seal: dict[str, Any], deviations: list[str]
         ) -> dict[str, Any]:  # fmt: skip
    """The fields of the card; numbers are those of measures.json."""
    attackers = sorted({row["attacker"] for row in held["rows"] if row["attacker"] not in FLOORS})
    seconds = sum(stage["seconds"] for stage in manifest["stages"])
    return {
        "identity": {
            "study": study.name, "config_sha256": manifest["config_sha256"], "fingerprint": manifest["fingerprint"],
            "code": manifest["code"], "versions": manifest["versions"], "machine": manifest["machine"],
            "stage_seconds": seconds, "teacher": study.teacher.name, "student": study.student.name,
        },
        "claim": {
            "question": study.question,
            "defenses": [c["defense"] for c in held["cases"] if c["defense"] != IDENTITY],
            "attacker_sees": {name: component("attacker", name)[1].needs_profile for name in attackers},
            "attacks": f"worst of {len(attackers)} listed attacks, {max(study.search.trials, 1)} trial(s) each",
            "capabilities": sorted({row["task"] for row in held["rows"]}),
            "budgets": sorted({row["budget"] for row in held["rows"]}),
            "limits": "budgets, tasks and students of this study; nothing is said of larger ones",
        },
        "preregistration": seal | {"deviations": deviations},
        "arms": [{name: row[name] for name in ("task", "defense", "attacker", "budget", "seeds", "planned", "items",
                                               "defended", "defended_lo", "defended_hi", "unparsed", "components")}
                 for row in held["rows"]],
        "budget": held["ledger"],
        "results": held["cases"],
        "utility": held["teachers"],
        "frontier": held["frontier"],
        "curves": held["curves"],
        "fidelity": [{"task": r["task"], "defense": r["defense"], "attacker": r["attacker"], "budget": r["budget"],
                      **r["fidelity"]} for r in held["rows"] if r["attacker"] not in FLOORS],
        "missing": [{"task": r["task"], "defense": r["defense"], "attacker": r["attacker"], "planned": r["planned"],
                     "finished": r["seeds"], "bounds": r["missing_bounds"]} for r in held["rows"]
                    if r["seeds"] < r["planned"]],
        "flags": held["flags"],
        "prices": study.measure.prices.model_dump(),
    }  # fmt: skip


TEMPLATE = """# Result card: {{ c.identity.study }}

{{ c.claim.question }}

**Claim.** {{ c.claim.attacks }}; capabilities {{ c.claim.capabilities|join(", ") }}; budgets {{ c.claim.budgets|join(", ") }} \
exchanges; {{ c.claim.limits }}. What attackers see: {% for a, p in c.claim.attacker_sees.items() %}{{ a }} {{ p }}\
{{ ", " if not loop.last }}{% endfor %}.

**Pre-registration.** analysis.yaml, SHA-256 `{{ c.preregistration.sha256 }}`, frozen after \
{{ c.preregistration.scored_before }} of {{ c.preregistration.of }} report exams had been scored. \
{{ "Deviations:" if c.preregistration.deviations else "No deviations." }}
{% for d in c.preregistration.deviations %}
- {{ d }}{% endfor %}

## Verdicts

| task | budget | defence | attack | T worst case | UCB | teacher (points) | verdict | rule | remarks | to settle |
|---|---|---|---|---|---|---|---|---|---|---|
{% for r in c.results %}| {{ r.task }} | {{ r.budget }} | {{ r.defense }} | {{ r.attack }}{{ " (tie)" if r.tie }} | {{ t(r) }} \
| {{ bound(r.ucb) }} | {{ pts(r.utility.change) }} [{{ pts(r.utility.lo) }}, {{ pts(r.utility.hi) }}] | {{ r.verdict or "-" }} \
| {{ r.rule }} | {{ r.remarks|join("; ") }} | {{ r.settle }} |
{% endfor %}
T is of the attack chosen on other seeds and items; UCB is the largest upper bound of all listed attacks.

## Flags

{% for f in c.flags %}- **{{ f.flag }}** ({{ f.where }}): {{ f.evidence }}. {{ kinds[f.flag].means }}; {{ kinds[f.flag].do }}.
{% else %}None.
{% endfor %}
## Arms

| task | budget | attacker | defence | seeds | accuracy % | seed SD | unparsed % | smallest change | exchanges | \
teacher tokens out | student FLOPs | dollars |
|---|---|---|---|---|---|---|---|---|---|---|---|---|
{% for a in c.arms %}{% set b = c.budget[loop.index0] %}| {{ a.task }} | {{ a.budget }} | {{ a.attacker }} | {{ a.defense }} \
| {{ a.seeds }} of {{ a.planned }} | {{ pct(a.defended) }} [{{ pct(a.defended_lo) }}, {{ pct(a.defended_hi) }}] \
| {{ pct(a.components.seed_sd) if a.components else "-" }} | {{ pct(a.unparsed) }} \
| {{ pct(a.components.smallest_change) if a.components else "-" }} | {{ b.exchanges|int }} | {{ b.tokens_out|int }} \
| {{ "%.2g"|format(b.flops) }} | {{ "%.2f"|format(b.dollars) }} |
{% endfor %}
Smallest change: the difference U - D, in points, that this design sees with probability 0.8.

## Sensitivity

| task | defence | T by floor | T, one seed less | best other attack | parsed only | compute-matched | cost-matched |
|---|---|---|---|---|---|---|---|
{% for r in c.results %}{% set s = r.sensitivity %}| {{ r.task }} | {{ r.defense }} | {% for n, v in s.by_floor.items() %}\
{{ n|replace("floor/", "") }} {{ two(v) }}{{ ", " if not loop.last }}{% endfor %} | \
{{ (two(s.drop_one_seed[0]) ~ " to " ~ two(s.drop_one_seed[1])) if s.drop_one_seed else "-" }} | \
{{ two(s.drop_chosen_attack) }} | {{ two(s.parsed_only) }} | {{ two(s.compute_matched) }} | {{ two(s.cost_matched) }} |
{% endfor %}
{% if curved %}## Query cost

| task | attacker | defence | M at 25 % | M at 50 % | M at 75 % | area between (points) | accounts, dollars for half |
|---|---|---|---|---|---|---|---|
{% for r in curved %}| {{ r.task }} | {{ r.attacker }} | {{ r.defense }} | {% for m in r.multipliers %}{{ m.text }} \
[{{ bound(m.lo) }}, {{ bound(m.hi) }}] | {% endfor %}{{ pts(r.area_between.value) }} [{{ pts(r.area_between.lo) }}, \
{{ pts(r.area_between.hi) }}] | {% for n, b in r.bill.items() %}{{ n }}{{ " at least" if b.lower_bound }} \
{{ b.accounts.median|int }}, ${{ "%.2f"|format(b.dollars.median) }}{{ "; " if not loop.last }}{% endfor %} |
{% endfor %}
M is how many times more exchanges the same capability takes; `>` where the defended curve never got there. Accounts and
dollars are medians over stated ranges (`prices`), which were assumed and not measured.

{% endif %}## Identity

fingerprint `{{ c.identity.fingerprint }}`, config `{{ c.identity.config_sha256[:16] }}`, sources \
`{{ c.identity.code.sources_sha256[:16] }}`, revision {{ c.identity.code.revision or "unknown" }}; \
{{ c.identity.machine.platform }}, {{ c.identity.machine.device }}, {{ c.identity.machine.cpu_capability }}, \
{{ c.identity.machine.threads }} thread; {{ "%.0f"|format(c.identity.stage_seconds) }} s of stages.
"""


def markdown(fields: dict[str, Any]) -> str:
    """The card for readers."""
    from jinja2 import Environment

    page = Environment(trim_blocks=False).from_string(TEMPLATE)
    curved = [row for row in fields["curves"] if "multipliers" in row]
    return page.render(c=fields, pct=points, pts=_signed, two=_two, bound=bound, t=worst, kinds=flags.KINDS, curved=curved) + "\n"


def _two(value: float | None) -> str:
    return "-" if value is None else f"{value:.2f}"


def _signed(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:+.1f}"
