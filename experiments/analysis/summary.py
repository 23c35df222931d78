"""From grades to every number of a report: a function of study, grades and arms alone."""

from __future__ import annotations

from collections.abc import Sequence

from experiments.analysis import campaigns, flagging
from experiments.analysis.comparisons import ArmTable
from experiments.analysis.frontier import frontier_results
from experiments.analysis.ledger import ledger_row
from experiments.analysis.marks import mark_results
from experiments.analysis.query_curves import curve_results
from experiments.analysis.rows import arm_rows
from experiments.analysis.teachers import teacher_results
from experiments.analysis.verdicts import judge_defenses
from experiments.planning.arms import is_floor
from experiments.results.grades import Grades
from experiments.results.schema.arms import FinishedStudent, MissingStudent
from experiments.results.schema.marks import MarkedStudent
from experiments.results.schema.measures import SCHEMA_VERSION, AttackFacts, Measures, StudyFacts
from experiments.results.schema.outcomes import CampaignOutcome
from experiments.results.schema.rows import Row
from experiments.settings.attacks import parse_attack, spelled
from experiments.settings.schema import Study


def measure(
    study: Study,
    grades: Grades,
    records: Sequence[FinishedStudent | MissingStudent],
    outcomes: Sequence[CampaignOutcome] = (),
    old: Sequence[str] = (),
    marked: Sequence[MarkedStudent] = (),
) -> Measures:
    """All of E1 to E13.

    Args:
        study: what was planned, with the settings of the measurement.
        grades: of all finished exams.
        records: what was planned; an arm without grades is counted as missing and never as zero.
        outcomes: runs of simulated campaigns, if the study has any.
        old: what of the results other code made, in lines; every row says whether there are such.
        marked: students that were tested for marks, if the study asks for that.

    Raises:
        NotMeasurable: where the grades allow no comparison.
    """
    table = ArmTable(study, grades, records)
    judged = judge_defenses(table)
    rows = arm_rows(table, judged.cases, bool(old))
    flags = [
        *flagging.missing_arm_flags(table),
        *flagging.teacher_flags(table),
        *judged.flags,
        *(flag for key in table.keys for flag in flagging.plateau_flags(table, key)),
    ]
    return Measures(
        schema_version=SCHEMA_VERSION,
        study=_study_facts(study),
        attacks=_attack_facts(rows),
        rows=rows,
        cases=sorted(judged.cases.values(), key=lambda case: (case.task, case.budget)),
        teachers=teacher_results(table),
        curves=curve_results(table),
        frontier=frontier_results(table, judged.cases),
        ledger=[ledger_row(table, key) for key in table.keys],
        flags=flagging.unique(flags),
        campaigns=(
            campaigns.measure(study.campaigns, outcomes, table)
            if study.campaigns and outcomes
            else None
        ),
        marks=mark_results(marked, study.measure.alpha),
        old=[*old],
    )


def _study_facts(study: Study) -> StudyFacts:
    return StudyFacts(
        name=study.name,
        question=study.question,
        seeds=len(study.seeds),
        items=study.measure.items,
        looks=study.measure.looks,
        alpha=study.measure.alpha,
        exchanges_per_question=(
            study.campaigns.exchanges_per_question if study.campaigns else None
        ),
    )


def _attack_facts(rows: Sequence[Row]) -> list[AttackFacts]:
    """Of the attacks with a reported student, by name."""
    names = sorted({row.attacker for row in rows if not is_floor(row.attacker)})
    return [
        AttackFacts(name=name, parts=spelled(name), interface=parse_attack(name).needs_interface)
        for name in names
    ]
