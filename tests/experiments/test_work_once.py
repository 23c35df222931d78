"""A teacher is asked once for what its defences only edit, and the bytes are those of asking
again.
"""

from dataclasses import replace

import numpy as np
import pytest

from defenses import ProviderResources
from defenses.release.downgrade import is_downgraded
from distill import logprob_cache
from distill.completions import BadInput, Completion, Interface, read_completions
from experiments.planning import arms, plan, scope
from experiments.settings import catalog, entries, schema
from experiments.settings.components import build_defense
from experiments.settings.defenses import parse_defense
from experiments.stages import completions, student
from experiments.stages.completions import EditedSpec, ReleasedSpec, ShuffledSpec
from experiments.stages.models import StoredModel, load_model
from experiments.stages.student import StudentInputs
from tests.experiments.test_wiring import TINY, folder, made, planned, tiny

PLAIN = ("attacker=sft", "seeds=[0]", "baseline_seeds=1")
CALLS = "release/decoy_calls"  # acts on calls, which these answers have none of
RELEASES = [n for n in catalog.names("defense") if n.startswith("release/") and n != CALLS]
TEXTS = [name for name in RELEASES if parse_defense(name).chain.traits.acts_on == "text"]
EDITS = [name for name in TEXTS if "rewriter" not in parse_defense(name).chain.traits.needs]
ROWS = [name for name in RELEASES if scope.asked_behind(name)[0] == "none" and name not in TEXTS]
WHOLE = (
    "decoding/temperature(match_utility=5) + release/truncate",
    "trained/nasty + release/truncate",
)
KEYLESS = [name for name in EDITS if not parse_defense(name).chain.traits.needs]


def completions_of(plan):
    """The completions of all reported students of the plain attack, by defence."""
    return {
        arm.defense: arm.completions
        for arm in plan.arms
        if (arm.attacker, arm.split) == ("sft", "report") and arm.defense != arms.IDENTITY
    }


def test_all_text_defences_read_the_clean_completions():
    words = (*TINY, f"defense=[none,{','.join(EDITS)}]", *PLAIN, "measure.looks=[5]")
    plan = planned("downgrade", *words, "task=addition", "budget=8")
    stages = completions_of(plan)
    clean = stages.pop("none")
    assert len(stages) == len(EDITS) >= 8 and isinstance(clean.spec, ReleasedSpec)
    for stage in stages.values():
        assert isinstance(stage.spec, EditedSpec) and stage.needs.completions == clean


class Counted:
    """A teacher that says each prompt's text and counts how often it is asked."""

    calls = 0

    def encode(self, prompt):
        return [0] * len(prompt.text)

    def tokenizer(self, text, **more):
        return type("Encoded", (), {"input_ids": [0] * len(text)})

    def generate(self, prompts, *, seed, interface):
        assert interface == Interface()
        Counted.calls += 1
        return [
            Completion(one.id, one.text, f" {one.text}; then; so # {i}", (1, 2, i + 3))
            for i, one in enumerate(prompts)
        ]


def test_the_teacher_is_asked_once_for_all_of_them(tmp_path, monkeypatch):
    plan = tiny(
        f"defense=[none,{','.join(KEYLESS)}]", "attacker=sft", "seeds=[0]", "baseline_seeds=1"
    )
    stages = completions_of(plan) | {
        arm.attacker: arm.completions for arm in plan.arms if arm.attacker == arms.SHUFFLED
    }
    assert len(stages) == len(KEYLESS) + 2 >= 8
    monkeypatch.setattr(completions, "load_model", lambda folder: Counted())
    monkeypatch.setattr(Counted, "calls", 0)
    task, texts = entries.build_task("addition"), {}
    for name, stage in stages.items():
        out = tmp_path / stage.key
        out.mkdir()
        completions.run(stage.spec, stage.needs.map(lambda needed: tmp_path / needed.key), out)
        texts[name] = read_completions(out / completions.FILE)
    assert Counted.calls == 1
    prompts = [item.prompt for item in task.items("query", 8, 0)]
    for name in KEYLESS:  # the same bytes as behind the defence itself
        behind = build_defense(parse_defense(name).spec, ProviderResources(format=task.format))(
            Counted()
        )
        assert texts[name] == behind.generate(prompts, seed=0, interface=Interface()), name
    assert any(texts[name] != texts["none"] for name in KEYLESS)


@pytest.mark.parametrize(
    ("entry", "behind", "parts"),
    [
        ("none", "none", 1),
        ("release/truncate", "none", 0),
        ("release/truncate + release/unicode", "none", 0),
        ("decoding/temperature + release/truncate", "decoding/temperature", 1),
        ("decoding/perturbed", "decoding/perturbed", 1),
        ("release/rounding", "none", 0),
        ("release/noise + release/top_k", "none", 0),
        ("release/information", "release/information", 1),  # reads scores
        ("release/poison(match_utility=5)", "none", 0),
        *((entry, entry, 2) for entry in WHOLE),
    ],
)
def test_what_a_teacher_is_asked_behind(entry, behind, parts):
    assert scope.asked_behind(entry) == (behind, parts)


def students_completions(plan, attacker):
    """The completions of reported students with one seed, by defence."""
    return {
        arm.defense: arm.completions
        for arm in plan.arms
        if (arm.attacker, arm.split, arm.seed) == (attacker, "report", 0)
        and arm.defense != arms.IDENTITY
    }


def test_one_asking_serves_all_interfaces_and_all_edits(tmp_path):
    """What is sold of it and what defences make of it are the bytes of asking anew."""
    names = ["none", "release/truncate", *ROWS]
    words = [f"defense=[{','.join(names)}]", "attacker=[sft,logprob_kd]", "baseline_seeds=1"]
    plan = tiny(*words, "seeds=[0]", "teacher.steps=30")
    texts, rows = students_completions(plan, "sft"), students_completions(plan, "logprob_kd")
    assert len(ROWS) >= 6 and {*rows} == {"none", *ROWS}
    first = rows["none"]
    assert isinstance(first.spec, ReleasedSpec) and first.spec.interface.kind == "top_k"
    askings = {
        stage.key
        for arm in plan.arms
        for stage in arm.completions.walk()
        if isinstance(stage.spec, ReleasedSpec) and stage.spec.seed == 0
    }
    assert askings == {first.key}
    assert all(texts[name] == texts["none"] for name in ROWS)

    store = made([*texts.values(), *rows.values()], tmp_path)
    teacher = load_model(folder(store, first.needs.teacher))
    task = entries.build_task("addition")
    prompts = [item.prompt for item in task.items("query", 8, 0)]
    changed = 0
    for interface, stages in ((Interface(), texts), (first.spec.interface, rows)):
        for name, stage in stages.items():
            if interface.kind == "text" and name in ROWS:
                continue
            resources = ProviderResources(format=task.format)
            behind = build_defense(parse_defense(name).spec, resources)(teacher)
            expected = behind.generate(prompts, seed=0, interface=interface)
            out = folder(store, stage)
            answers = read_completions(out / completions.FILE)
            assert answers == [replace(one, logprobs=None) for one in expected]
            assert (out / "logprobs").is_dir() == (interface.kind != "text")
            if interface.kind == "text":
                continue
            cache = logprob_cache.read(out / "logprobs", tokenizer=teacher.vocabulary)
            for stored, wanted in zip(cache.attach(answers), expected, strict=True):
                is_there = np.isfinite(wanted.logprobs.values_TK)
                assert np.array_equal(stored.logprobs.values_TK, wanted.logprobs.values_TK)
                assert np.array_equal(
                    stored.logprobs.ids_TK[is_there], wanted.logprobs.ids_TK[is_there]
                )
            changed += (out / "logprobs/values.npy").read_bytes() != (
                folder(store, first) / "logprobs/values.npy"
            ).read_bytes()
    assert changed == len(ROWS)


def test_a_study_without_attacks_on_logprobs_asks_for_text():
    clean = completions_of(tiny(*PLAIN, "defense=[none,release/rounding]"))["none"]
    assert isinstance(clean.spec, ReleasedSpec) and clean.spec.interface.kind == "text"


def test_what_samples_before_it_edits_is_asked_behind_that_alone():
    plan = tiny("defense=[decoding/temperature,decoding/temperature + release/truncate]", *PLAIN)
    stages = completions_of(plan)
    cut = stages["decoding/temperature + release/truncate"]
    assert cut.needs.completions == stages["decoding/temperature"]
    assert isinstance(stages["decoding/temperature"].spec, ReleasedSpec) and cut.spec.after == 1


def test_shuffled_completions_are_the_clean_ones():
    plan = tiny("defense=none", *PLAIN)
    (mixed,) = [arm.completions for arm in plan.arms if arm.attacker == arms.SHUFFLED]
    assert isinstance(mixed.spec, ShuffledSpec)
    assert mixed.needs.completions == completions_of(plan)["none"]


def test_edited_completions_of_a_real_teacher_are_those_of_asking_it_behind_the_defence(tmp_path):
    words = [*TINY, "defense=[none,release/truncate]", *PLAIN, "teacher.steps=30"]
    planned = plan.make(schema.load("quickstart", words))
    stage = completions_of(planned)["release/truncate"]
    store = made([stage], tmp_path)
    teacher = load_model(folder(store, stage.needs.teacher))
    behind = build_defense(
        stage.spec.defense, ProviderResources(format=entries.build_task("addition").format)
    )(teacher)
    prompts = [item.prompt for item in entries.build_task("addition").items("query", 8, 0)]
    expected = behind.generate(prompts, seed=0, interface=Interface())
    assert read_completions(folder(store, stage) / completions.FILE) == expected


def test_what_the_weaker_teacher_says_instead_is_what_its_own_floor_is_trained_on(tmp_path):
    words = (*TINY, "defense=[none,release/downgrade(share=1.0),release/downgrade]", *PLAIN)
    small = [
        word.replace("teacher.", "weaker_teacher.", 1)
        for word in TINY
        if word.startswith("teacher.")
    ]
    plan = planned("downgrade", *words, *small, "teacher.steps=9", "task=addition", "budget=20")
    stages = completions_of(plan)
    (floor,) = [
        arm.completions for arm in plan.arms if (arm.attacker, arm.split) == (arms.WEAKER, "report")
    ]
    store = made([*stages.values(), floor], tmp_path)
    strong, weak, all_weak, some = (
        [each.text for each in read_completions(folder(store, stage) / completions.FILE)]
        for stage in (
            stages["none"],
            floor,
            stages["release/downgrade(share=1.0)"],
            stages["release/downgrade"],
        )
    )
    assert all_weak == weak != strong
    prompts = [item.prompt for item in entries.build_task("addition").items("query", 20, 0)]
    downgraded = is_downgraded(prompts, 0, 0.3, "request", "downgrade")
    assert 0 < sum(downgraded) < 20
    assert some == [b if low else a for a, b, low in zip(strong, weak, downgraded, strict=True)]


def test_a_teacher_from_scratch_has_no_base_to_answer_instead():
    words = (*TINY, "defense=[none,release/downgrade(to=base)]", *PLAIN)
    with pytest.raises(BadInput, match="teacher 'quick' has no base.*write to=weaker_teacher"):
        tiny(*words)
    with pytest.raises(BadInput, match="needs a weaker teacher; set weaker_teacher"):
        tiny(*TINY, "defense=[none,release/downgrade]", *PLAIN)


def test_an_attacker_rebuilds_a_defence_of_text_in_the_format_of_the_task():
    words = ("own=worked", "own.worked=4", "defense=[none,release/summary]", "seeds=[0]")
    plan = tiny(*words, "attacker=clean/invert_trace(reads=sold) + sft", "baseline_seeds=1")
    spec = next(arm.student.spec for arm in plan.arms if arm.defense == "release/summary")
    task = entries.build_task("addition")
    worked = [Completion("w", "?", item.solution) for item in task.items("query", 4, 0)]
    rebuilt = student._released(task, spec, StudentInputs(None))["defense"](worked)
    defended = build_defense(spec.defense, ProviderResources(format=task.format))
    behind = defended(StoredModel(worked)).generate((), seed=0, interface=Interface())
    assert (
        rebuilt
        == behind
        != build_defense(spec.defense)(StoredModel(worked)).generate(
            (), seed=0, interface=Interface()
        )
    )
