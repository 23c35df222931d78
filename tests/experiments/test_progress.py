"""What a run says while it works, and about how long it will take."""

import functools
import io
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace

import pytest
from rich.console import Console

from distill import trainer
from experiments.launch import estimate, local
from experiments.launch.estimate import Estimate, Work, duration
from experiments.launch.progress import Monitor, shown, stage_names
from experiments.planning.costs import model_of, seconds
from experiments.stages.stage import Inputs, Spec, Stage
from experiments.stages.teacher import ServedTeacher
from experiments.store import Store
from tests.experiments.test_wiring import tiny


class Student(Spec):
    STAGE = "student"
    seed: int


class Examined(Spec):
    STAGE = "evaluation"


@dataclass(frozen=True)
class One(Inputs):
    student: object


STAGES = [Stage(Student(seed=i)) for i in range(10)]


class Clock:
    now = 0.0

    def __call__(self):
        return self.now


def monitor(workers=2, seconds_each=10.0):
    clock = Clock()
    expected = Estimate({Work("student", ""): seconds_each / seconds(STAGES[0])}, frozenset())
    return clock, Monitor(STAGES, {STAGES[0].key: "student first"}, expected, workers, clock)


def test_the_time_left_follows_the_pace():
    clock, state = monitor()
    assert state.remaining() == pytest.approx(50)
    for stage in STAGES:
        state.submit(stage)
    clock.now = 10
    for stage in STAGES[:2]:
        state.finish(stage)
    assert state.remaining() == pytest.approx(40)
    clock.now = 50  # these two took four times as long
    for stage in STAGES[2:4]:
        state.finish(stage)
    assert 30 < state.remaining() < 75
    assert state.line().startswith("4/10 stages in 50 s, about ")
    assert state.line().endswith(f"now: student/{STAGES[4].key}, student/{STAGES[5].key}")


def test_without_a_terminal_a_line_comes_now_and_then():
    clock, state = monitor()
    out = io.StringIO()
    state.submit(STAGES[0])
    with shown(state, Console(file=out, force_terminal=False)) as update:
        for second in range(0, 3601):
            clock.now = second
            update()
    lines = out.getvalue().splitlines()
    assert 30 < len(lines) < 80 and lines[0].startswith("0/10 stages in 30 s, about 2.6 min left")
    assert lines[0].endswith("now: student first")


def test_in_a_terminal_there_is_a_bar():
    _, state = monitor()
    out = io.StringIO()
    state.submit(STAGES[0])
    with shown(state, Console(file=out, force_terminal=True, width=120)) as update:
        update()
    assert "0/10" in out.getvalue() and "student first" in out.getvalue()


def test_stages_are_named_by_kind_and_arm():
    planned = tiny("defense=release/answer_only", "attacker=sft")
    names = stage_names(planned)
    arm = next(arm for arm in planned.arms if (arm.defense, arm.seed) == ("release/answer_only", 1))
    assert names[arm.student.key] == "student addition release/answer_only sft 8 seed 1"
    assert {names[s.key] for s in planned.stages if s.kind == "teacher"} == {"teacher addition"}


def test_what_stages_took_here_is_what_they_are_said_to_take(tmp_path):
    store, (ours, other, copied) = Store(tmp_path), STAGES[:3]
    exam = Stage(Examined(), One(ours))
    assumed = estimate.measure(store, [ours, exam])
    assert assumed.total([ours, exam], 2) == (seconds(ours) + seconds(exam)) / 2
    assert assumed.basis([ours, exam]) == "assumed: student, evaluation"

    def make(stage, took):
        def build(out):
            (out / "x").write_text("x")
            return took

        store.make(stage.kind, stage.key, build)

    assumption = {"assumed_seconds": seconds(other), "worked_with": ""}
    make(other, {"seconds": 7.0} | assumption)
    make(copied, {"seconds": 0.1, "copied": "elsewhere"} | assumption)
    make(STAGES[3], {"seconds": 0.1})  # made before anything was assumed
    elsewhere = estimate.measure(store, [ours, exam])
    assert elsewhere.of(ours) == 7 and elsewhere.of(exam) == seconds(exam)
    assert elsewhere.basis([ours]) == "measured in other studies here: student"
    make(ours, {"seconds": 3.0} | assumption)
    assert estimate.measure(store, [ours, exam]).of(STAGES[5]) == 3
    (store.folder("student", ours.key) / "done.json").write_text("{")
    assert estimate.measure(store, [ours, exam]).of(ours) == 7


def finished(store, stage, ratio, model):
    """A result that took so many times as long as was assumed, with a model."""

    def build(out):
        (out / "x").write_text("x")
        assumed = seconds(stage)
        return {
            "seconds": ratio * assumed,
            "assumed_seconds": assumed,
            "worked_with": model_of(model),
        }

    store.make(stage.kind, stage.key, build)


@functools.cache
def planned_student():
    arms = tiny("defense=none", "attacker=sft").arms
    return next(arm.student for arm in arms if arm.student.kind == "student")


def student(**changed):
    """A stage that trains a small network of a shape."""
    stage = planned_student()
    shape = stage.spec.shape.model_copy(update=changed)
    return Stage(stage.spec.model_copy(update={"shape": shape}), stage.needs)


def test_speed_is_that_of_the_same_model(tmp_path):
    """What a small network took says nothing of a larger one, however it is trained."""
    store = Store(tmp_path)
    ours, longer, larger = student(), student(steps=99), student(hidden_size=512)
    assert len({stage.key for stage in (ours, longer, larger)}) == 3
    finished(store, longer, 5.0, longer)
    expected = estimate.measure(store, [ours, larger])
    assert expected.of(ours) == 5 * seconds(ours) and expected.of(larger) == seconds(larger)
    basis = "measured in other studies here: student; assumed: student"
    assert expected.basis([ours, larger]) == basis
    exam = Stage(Examined(), One(ours))
    finished(store, exam, 3.0, exam)
    assert estimate.measure(store, [Stage(Examined(), One(larger))]).measured == {}
    assert estimate.measure(store, [Stage(Examined(), One(longer))]).of(exam) == 3 * seconds(exam)


def test_how_long_a_server_takes_is_unknown_until_it_is_measured(tmp_path):
    store, settings = Store(tmp_path), {"url": "http://127.0.0.1:8000/v1", "model": "m"}
    server = Stage(ServedTeacher.model_construct(kind="served", **settings))
    exams = [Stage(Examined(), One(server)), Stage(Examined(), One(student()))]
    unknown = estimate.measure(store, exams)
    assert unknown.total(exams, 1) == seconds(exams[1])
    assert unknown.basis(exams) == (
        "assumed: evaluation; "
        "not counted, as how long a server takes is unknown until it is measured: evaluation"
    )
    assert unknown.words(exams, 2).startswith("about 0 s with 2 workers (assumed: evaluation; not")
    assert unknown.words(exams[:1], 2).startswith("an unknown time with 2 workers (not counted")
    finished(store, exams[0], 4.0, exams[0])
    measured = estimate.measure(store, exams)
    assert measured.total(exams, 1) == 4 * seconds(exams[0]) + seconds(exams[1])
    assert "unknown" not in measured.basis(exams)


@pytest.mark.parametrize(
    ("length", "words"), [(0, "0 s"), (89.4, "89 s"), (90, "1.5 min"), (86_400, "24.0 h")]
)
def test_a_length_of_time_is_said_as_people_say_it(length, words):
    assert duration(length) == words


def test_losses_of_trainings_under_way_are_watched_and_put_away(tmp_path, monkeypatch):
    seen, stage = {}, STAGES[0]

    class Watched:
        def __init__(self, study, settings, folder, say):
            assert (study, folder) == ("s", tmp_path / "s")

        def look(self, files):
            seen.update({name: path.read_text() for name, path in files if path.is_file()})

        def close(self):
            seen["closed"] = "yes"

    @contextmanager
    def pool(workers, code):
        with ThreadPoolExecutor(1) as threads:
            yield threads

    def build(out):
        checkpoint = out.with_suffix(".checkpoint")
        trainer._note(checkpoint, trainer._State(step=20, losses=[1.5]))
        for _ in range(100):
            if len(seen):
                break
            time.sleep(0.05)
        (out / "x").write_text("x")

    store = Store(tmp_path / "store")
    monkeypatch.setattr(local, "Live", Watched)
    monkeypatch.setattr(local, "_pool", pool)
    monkeypatch.setattr(local, "REFRESH_SECONDS", 0.01)
    monkeypatch.setattr(local, "_make", lambda s, root, n: store.make(s.kind, s.key, build))
    monkeypatch.setattr(local.provenance, "modules", lambda stage: {})
    study = SimpleNamespace(name="s", tracking=None)
    due = SimpleNamespace(why=[], stages=[stage])
    plan = SimpleNamespace(study=study, arms=[], due=lambda *_: due)
    local.run(plan, store.root, 1, Console(file=io.StringIO()))
    assert seen == {f"{stage.kind}/{stage.key}": "20 1.5\n", "closed": "yes"}
    assert not store.losses(stage.kind, stage.key).exists()
