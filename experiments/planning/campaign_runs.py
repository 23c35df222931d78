"""The campaigns of a study: a run each against every access, and the students of what leaked."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np

from distill.campaigns import apportion
from distill.campaigns.presets import apart
from distill.completions import BadInput
from experiments.campaigns.neighbour import Overlap
from experiments.campaigns.population import Population
from experiments.campaigns.world import behind
from experiments.measure.budgets import too_far
from experiments.planning.arms import Arm, CampaignRun, Cell
from experiments.planning.graph import search, student_exam
from experiments.planning.scope import Scope, release
from experiments.planning.texts import texts_stage
from experiments.seeds import SHARDS, seed_for
from experiments.settings import campaigns
from experiments.settings.attacks import AttackSpec, kind_of, parse_attack
from experiments.settings.campaigns import OPEN, Campaigns, OtherProvider
from experiments.settings.components import ComponentSpec, load_module
from experiments.settings.defenses import parse_defense
from experiments.settings.schema import Study
from experiments.stages.calibration import CalibrationInputs, CalibrationSpec
from experiments.stages.campaign import CampaignInputs, CampaignSpec
from experiments.stages.completions import LeakedInputs, LeakedSpec
from experiments.stages.merged_campaign import MergedInputs, MergedSpec
from experiments.stages.stage import Stage
from experiments.stages.student import StudentInputs, StudentSpec
from experiments.stages.two_providers import Access, OtherSpec, TrafficSpec

WEAKER = {"weaker_teacher", "base"}  # what may answer reduced accounts in the teacher's place
MOST = 10_000  # runs; planning takes seconds for them
FEWEST = 100  # honest accounts that a population needs


def campaign_runs(study: Study) -> list[CampaignRun]:
    """Every campaign against every access, a run a seed; what leaks is the same whatever it
    teaches.

    Raises:
        BadInput: the study has no query curve that a campaign could be read through, or too many
            runs.
    """
    simulated = study.campaigns
    if simulated is None:
        return []
    _check_budgets(study)
    _check_shards(simulated)
    seeds = [(seed, "report") for seed in study.seeds]
    if len(simulated.presets) > 1:
        seeds += [(seed, "select") for seed in study.selection_seeds]
    runs = list(itertools.product(simulated.presets, simulated.access, seeds))
    if len(runs) * simulated.shards > MOST:
        raise BadInput(
            f"{study.name}: {len(runs) * simulated.shards} runs of campaigns are more than {MOST}; "
            "divide it into studies"
        )
    traffic = TrafficSpec(
        honest=_honest(simulated)[0],
        days=simulated.days,
        release=simulated.release,
        detectors=[_detector(entry, simulated) for entry in simulated.detectors],
        other=_other(simulated.other),
    )
    texts = texts_stage(simulated.texts)
    clean = Stage(CalibrationSpec(**dict(traffic), clean=simulated.clean), CalibrationInputs(texts))
    made = []
    for preset, access, (seed, split) in runs:
        spec = CampaignSpec(
            **dict(traffic),
            campaign=campaigns.parse_campaign(preset),
            access=None
            if access == OPEN
            else Access(**campaigns.parse_access(access).model_dump()),
            rates=simulated.rates,
            seed=seed,
        )
        run = _in_shards(simulated, spec, CampaignInputs(clean, texts))
        made.append(CampaignRun(preset, access, seed, split, run, []))
    return made


def _in_shards(simulated: Campaigns, spec: CampaignSpec, inputs: CampaignInputs[Stage]) -> Stage:
    """A campaign's run, or the stage that merges its shards: worlds of their own."""
    if simulated.shards == 1:
        return Stage(spec, inputs)
    parts = zip(_honest(simulated), apart(spec.campaign, simulated.shards), strict=True)
    shards = []
    for number, (honest, campaign) in enumerate(parts):
        seed = seed_for("shard", spec.seed * SHARDS + number)
        changes = {"honest": honest, "campaign": campaign, "seed": seed, "shard": number}
        shards.append(Stage(spec.model_copy(update=changes), inputs))
    return Stage(MergedSpec(), MergedInputs(tuple(shards)))


def _honest(simulated: Campaigns) -> list[Population]:
    """The honest accounts of each shard, the largest first, on whose size thresholds are
    calibrated.
    """
    sizes = apportion(simulated.honest.accounts, np.ones(simulated.shards))
    return [simulated.honest.model_copy(update={"accounts": int(size)}) for size in sizes]


def shards_notes(study: Study) -> list[str]:
    """What a report says of runs that were simulated in shards; nothing where they were not.

    Args:
        study: whose campaigns may be in shards.
    """
    simulated = study.campaigns
    if simulated is None or simulated.shards == 1:
        return []
    most = _honest(simulated)[0].accounts
    return [
        f"campaigns were simulated in {simulated.shards} shards of at most {most} honest accounts, "
        "worlds of their own; thresholds are calibrated on clean horizons of one shard's size"
    ]


def _check_shards(simulated: Campaigns) -> None:
    """BadInput where a run cannot be cut, or shards would not show what all accounts do."""
    if (shards := simulated.shards) == 1:
        return
    where = f"campaigns.shards={shards}"
    if simulated.access != [OPEN]:
        raise BadInput(
            f"{where}: a policy acts on the whole campaign, which reacts; campaigns.access must be "
            f"{OPEN} alone, got {', '.join(simulated.access)}"
        )
    if simulated.other is not None:
        raise BadInput(
            f"{where}: a second provider sees the whole campaign; set no campaigns.other"
        )
    if several := [entry for entry in simulated.detectors if not _is_alone(entry)]:
        raise BadInput(
            f"{where}: {', '.join(several)} may compare accounts that are not linked, so all must "
            "be in one world; leave them out of campaigns.detectors"
        )
    _check_filled(where, _honest(simulated)[-1])
    for entry in simulated.presets:
        try:
            apart(campaigns.parse_campaign(entry), shards)
        except BadInput as error:
            raise BadInput(f"{where}: campaigns.presets: {entry}: {error}") from None


def _check_budgets(study: Study) -> None:
    if all(len(block.budgets) < 2 for block in study.blocks):
        raise BadInput(
            f"{study.name}: campaigns are read through the query curve; a block needs two "
            "budgets or more"
        )
    for block in study.blocks:
        if why := too_far(block.budgets, "the query curve that campaigns are read through"):
            raise BadInput(f"{study.name}: {why}, got {sorted(block.budgets)}")


def _is_alone(entry: str) -> bool:
    """Whether a detector looks at an account and those linked to it alone."""
    name = campaigns.parse_detector(entry).name
    return bool(load_module("detector", name).Detector.alone)


def _check_filled(where: str, honest: Population) -> None:
    """BadInput where a shard has too few accounts to be like the whole: an exit or a campus that
    few sit behind links them, where one that many share links nobody.
    """
    if honest.accounts < FEWEST:
        raise BadInput(
            f"{where}: honest accounts must be at least {FEWEST} a shard, got {honest.accounts}"
        )
    hubs = (("vpn", "exit_size"), ("campus", "campus_size"))
    for (share, size), there in zip(hubs, behind(honest), strict=True):
        if getattr(honest, share) and there < getattr(honest, size):
            raise BadInput(
                f"{where}: of {honest.accounts} honest accounts a shard {there} are behind a "
                f"campaigns.honest.{share} address that {getattr(honest, size)} share ({size}); "
                "take fewer shards"
            )


def _other(other: OtherProvider | None) -> OtherSpec | None:
    """Another provider as simulations are told of it; what the two are called is not for them."""
    if other is None:
        return None
    access = Access(**campaigns.parse_access(other.access).model_dump())
    return OtherSpec(overlap=Overlap(both=other.both, pool=other.pool), access=access)


def _detector(entry: str, simulated: Campaigns) -> ComponentSpec:
    """A detector as simulations are told of it; one waits for the day of a release."""
    detector = campaigns.parse_detector(entry)
    more = {"release": simulated.release} if detector.name == "pivot" else {}
    return ComponentSpec(name=detector.name, settings=detector.settings | more)


def leaked_student(scope: Scope, leak: CampaignRun, defense: str, attacker: str) -> Arm:
    """The student of exactly what a campaign got at the study's largest budget.

    Args:
        scope: of a task.
        leak: the run of the campaign.
        defense: by its entry.
        attacker: by its entry.

    Raises:
        BadInput: the attacker does more than learn from text.
    """
    study, attack = scope.study, parse_attack(attacker)
    simulated, budget = study.campaigns, study.most(scope.task)
    assert simulated
    _check_plain(attacker, attack)
    released = release(scope, defense, "text")
    got = LeakedSpec(
        task=scope.spec,
        budget=budget,
        seed=leak.seed,
        source="leaked",
        defense=released.defense,
        reduced=parse_defense(simulated.reduced).spec,
        stands_for=simulated.stands_for,
        per_question=simulated.per_question(leak.preset, budget),
    )
    less = release(scope, simulated.reduced, "text").provider
    answers = Stage(got, LeakedInputs(scope.teacher, released.provider, leak.run, less))
    (learner,) = attack.specs("learn")
    spec = StudentSpec(
        task=scope.spec, attacker=learner, shape=scope.shape, seed=leak.seed, leaked=True
    )
    inputs = StudentInputs(answers)
    if study.search.trials:
        inputs = replace(inputs, search=search(scope, Cell(defense, attacker, budget)))
    student = Stage(spec, inputs)
    exam = student_exam(scope, student, "report")
    return Arm(scope.task, defense, attacker, budget, leak.seed, "leaked", exam)


def _check_plain(attacker: str, attack: AttackSpec) -> None:
    plain = [kind_of(part.name) for part in attack.parts] == ["learn"] and not attack.needs
    if not plain or attack.needs_interface != "text":
        raise BadInput(
            f"{attacker}: campaigns.students trains on what leaked, so the block's first "
            "attacker must be a plain learner of text, such as sft"
        )


def check_reduced(simulated: Campaigns) -> None:
    """What answers of reduced accounts pass may only edit text.

    Args:
        simulated: of the study.

    Raises:
        BadInput: it is more than that.
    """
    defense = parse_defense(simulated.reduced)
    edits = (
        all(part.name.startswith("release/") for part in defense.parts)
        and defense.chain.traits.acts_on == "text"
    )
    beyond = {*defense.chain.traits.needs} - WEAKER
    if not edits or beyond or defense.match:
        raise BadInput(
            f"campaigns.reduced: {simulated.reduced} must edit finished answers and need nothing "
            "but a weaker model, as release/answer_only and release/downgrade do"
        )
