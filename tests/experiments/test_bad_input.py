"""What a user can get wrong is one line that says where and what is right, exit code 2, and nothing
lost.
"""

import json
import re
import shutil
import time
from pathlib import Path

import pytest

from distill.completions import BadInput
from experiments import cli
from experiments.planning import plan, questions
from experiments.settings import catalog, entries, grammar, schema
from tests.experiments.small import STUDY, apart, command, run
from tests.fuzz import limited


@pytest.mark.parametrize(
    ("override", "message"),
    [
        (
            "student.lerning_rate=1",
            "unknown key 'student.lerning_rate'; did you mean 'learning_rate'",
        ),
        ("measure.item=1", "unknown key 'measure.item'; did you mean 'items'"),
        ("+measure.item=60", "unknown key 'measure.item'; did you mean 'items'"),
        ("+teacher.stepz=60", "unknown key 'teacher.recipe.stepz'; did you mean 'steps'"),
        ("seds=[1]", "unknown key 'seds'; did you mean 'seeds'"),
        ("tracking.mod=off", "did you mean 'mode'"),
        ("student=tiney", "student: no 'tiney'; did you mean 'tiny'"),
        ("tracking=wandb", r"tracking: no 'wandb' \(there are: off, offline, online\)"),
        ("student.learning_rate=-1", "must be above 0 .got -1"),
        ("student.hidden_size=20", "multiple of 2 x num_heads"),
        ("measure.items=many", "must be a whole number"),
        ("question='\x1b[31m'", "question: must match"),
        ("teacher.kind=magic", "'recipe', .*'pretrained', 'recorded'"),
        ("seeds=[0,0]", "must differ"),
        ("seeds=[-1]", "must be at least 0"),
        ("seeds", "an override is key=value"),
        ("defense=release/topk", "did you mean 'release/top_k'"),
        ("defense=[](keep=1)", r"defense: no .\[\]. .there are"),
        ("defense=release/truncate(kep=0.2)", "unknown key 'kep'; did you mean 'keep'"),
        ("defense=release/truncate(keep=2)", "must be at most 1"),
        ("defense=release/truncate(0.2)", "an entry is a name, or name"),
        ("task=adition", "did you mean 'addition'"),
        ("task=gsm8k(path=/nope)", "once; a path, or text with other signs, is in quotes: path='"),
        ("task=gsm8k(path=~/my data)", "is in quotes: path='...'"),
        ("task=gsm8k(path='nowhere/', path=my-data)", "is in quotes: path='...'"),
        ("task=gsm8k(path=nowhere)", "no train.jsonl and no test.jsonl in nowhere"),
        ("budget=0", "must be at least 1 .got 0."),
        ("budget=[8", "bracket or a quote is not closed"),
        ("blocks=null", r"blocks: must be a list .got None"),
        ("blocks=1", r"blocks: must be a list, such as .1. .got 1"),
        ("student=null", "override 'student=null': .*must be a string"),
        ("search=[0.5,2]", r"search: no '\[0.5,2\]'"),
        ("teacher.kind='a\nb'", "'recipe', .*'pretrained', 'recorded'"),
        (
            "student.learning_rate=inf",
            r"student.learning_rate: must be .* a number of at most 1e\+12 .got inf",
        ),
        ("measure.prices.price_in=[0,nan]", "measure.prices.price_in.1: must be .*got nan"),
        ("measure.prices.price_gpu_hour=[1e308,1e308]", "price_gpu_hour.0: must be"),
        ("tracking.timeout=1e300", "tracking.timeout: must be"),
        ("teacher.steps=true", "teacher.recipe.steps: must be a whole number .got True"),
        ("seeds=5", r"seeds: must be a list, such as \[0,1,2,3,4\] .got 5"),
        ("measure.looks=3", r"looks: must be a list, such as \[3\] .got 3"),
        ("seeds=[false]", "seeds.0: must be a whole number .got False"),
        ("student.steps=2.5", "must be a whole number .got 2.5"),
        ("student.steps='2'", "must be a whole number .got '2'"),
        ("measure.plateau=1", "must be true or false .got 1"),
        ("name=..", "name: must match"),
        ("name=store", "name must be none of store, reproduced"),
        ("name=Reproduced", "name must be none of store, reproduced"),
        (
            "measure.items=100000",
            "measure.items: .*: 100000 report items asked for, only 39398 available",
        ),
        ("measure.selection_items=1e24", "measure.selection_items: must be"),
        ("budget=99999999999999999999", "budgets.0: must be a whole number"),
        ("budget=1000000000", "budgets.0: must be at most"),
        ("search.trials=1000000", "search.trials: must be at most"),
        (
            "measure.teacher_seeds=100000000",
            "measure.teacher_seeds: must be at most",
        ),
        (
            "baseline_seeds=1000",
            "1000 seeds of floors and undefended students are asked for; 999 are below 1000",
        ),
        ("hydra.run.dir=x", "hydra's own settings are no part of a study"),
        ("+hydra.foo=1", "hydra's own settings"),
        ("hydra/launcher=basic", "hydra's own settings"),
        ("question=${oc.env:HOME}", r"with --env \$\{oc.env:NAME\} is an environment variable"),
        ("question=${name}", "is not replaced"),
        ("seeds=" + "[" * 500, "brackets are more than 20 deep"),
        ("question=" + "{a:" * 300 + "1" + "}" * 300, "brackets are more than 20 deep"),
        ("question=" + "x" * 20_000, "20009 characters; 10000 are the most"),
        ("seeds=0,1", r"one value a key; a list is in brackets: 'seeds=\[0,1\]'"),
        ("seeds=sort(range(1000000000))", "is no plain value"),
        ("teacher.name=a=b", """is quoted twice: "teacher.name='...'\""""),
        ("attacker=logprob_kd", None),
    ],
)
def test_a_mistake_in_the_settings(override, message, capsys):
    more = ["defense=release/truncate"] if override.startswith("attacker") else []
    code = cli.main(["plan", "quickstart", *more, override])
    if (
        message is None
    ):  # a cell that cannot be is left out with a note, and the ceiling of the attacker stays
        assert (
            code == 0
            and "release/truncate, as it releases no logprobs: logprob_kd"
            in capsys.readouterr().out
        )
        return
    error = capsys.readouterr().err
    assert code == 2 and re.search(message, error) and error.count("\n") == 1


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["stud\u00e9nt.steps=1"], "unknown key 'stud\u00e9nt.steps'; keys have no other letters"),
        (
            ["teacher=recorded", "teacher.path=a.jsonl", "studnet.steps=3"],
            "override 'studnet.steps=3': unknown key",
        ),
        (
            ["studnet.steps=3", "teacher=recorded", "teacher.path=a.jsonl"],
            "override 'studnet.steps=3': unknown key",
        ),
        (
            ["teacher=recorded", "teacher.path=lr=1/a.jsonl"],
            """quoted twice: "teacher.path='...'\"""",
        ),
        (
            ["teacher=recorded", "teacher.path=a(1).jsonl"],
            """quoted twice: "teacher.path='...'\"""",
        ),
        (
            ["teacher=recorded", "teacher.pth=a.jsonl"],
            "unknown key 'teacher.pth'; did you mean 'path'",
        ),
        (["teacher=recorded", "student=tiney"], "student: no 'tiney'"),
        (["teacher=recorded"], "teacher.path: is missing; write teacher.path=..."),
        (["teacher=recorded", "'teacher.path=x'"], "override"),
    ],
)
def test_the_word_that_is_wrong_is_named(words, message, capsys):
    assert cli.main(["plan", "quickstart", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def test_a_value_in_quotes_is_taken_as_it_is(capsys):
    study = schema.load(
        "quickstart", ["teacher=recorded", "teacher.path='runs/lr=1/a (1), é.jsonl'"]
    )
    assert study.teacher.path == "runs/lr=1/a (1), é.jsonl"


def test_the_environment_is_read_only_where_it_is_allowed(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("SECRET", "s3cret")
    word = "question='${oc.env:SECRET}'"
    assert schema.load("quickstart", [word], environment=True).question == "s3cret"
    assert (
        cli.main(["show", "quickstart", "--env", word]) == 0 and "s3cret" in capsys.readouterr().out
    )
    for words in (
        [word],
        ["--env", "question='${oc.decode:${oc.env:SECRET}}'"],
        ["--env", "question='${name}'"],
    ):
        assert (
            cli.main(["show", "quickstart", *words]) == 2
            and "s3cret" not in capsys.readouterr().err
        )
    path = tmp_path / "mine.yaml"
    path.write_text(YAML.replace("question: x", "question: ${oc.env:SECRET}"))
    assert cli.main(["show", str(path), "--env"]) == 2
    assert (
        f"{path}, line 5, column 11: ${{...}} is not replaced in files" in capsys.readouterr().err
    )


YAML = """\
defaults:
  - /study/quickstart
  - _self_
name: mine
question: x
student:
  steps: 3
"""


@pytest.mark.parametrize(
    ("line", "where", "message"),
    [
        ("name: again", (8, 1), "the key 'name' is there twice"),
        ("measure: {items: 1, items: 2}", (8, 21), "the key 'items' is there twice"),
        ("own:\n\tworked: 1", (9, 1), "cannot start any token"),
        ("seeds: [0", (9, 1), "expected ',' or ']'"),
        ("seeds: 'a", (9, 1), "unexpected end of stream"),
        ("---\nname: a", (8, 1), "another document"),
        ("seeds: !mine 1", (8, 8), "unknown tag '!mine'"),
        ("seeds: !!python/object/apply:os.system [ls]", (8, 8), "unknown tag"),
        ("seeds: !!binary aGk=", (8, 8), "unknown tag"),
        ("own: a\0b", (8, 7), r"character '\x00' is not allowed"),
        ("? [a, b]\n: 1", (8, 3), "a key is a word"),
        ("1: a", (8, 1), "a key is a word, got '1'"),
        ("seeds: &s [*s]", (8, 8), "nested more than 30 deep"),
        ("x: " + "[" * 2000, (8, 33), "nested more than 30 deep"),
        ("seeds: [" + "9" * 5000 + "]", (8, 9), "at most 20 digits"),
        ("own: {worked: .inf}", (8, 15), "a number is finite"),
        ("seeds: !!int x", (8, 8), "'x' is no int"),
        ("own: '${name}'", (8, 6), "is not replaced in files"),
        ('own: "\\ud83d"', (8, 6), "half a surrogate pair"),
        ('own: "\\UFFFFFFFF"', (8, 9), "an escape is no character"),
        (
            "".join(
                f"x{n}: &x{n} [{', '.join(9 * [f'*x{n - 1}' if n else 'a'])}]\n" for n in range(9)
            ),
            None,
            "20000 values",
        ),
        ("x: *nothing", (8, 4), "undefined alias"),
        ("%YAML 9", (8, 8), "expected"),
    ],
)
def test_a_slip_in_yaml_has_its_place(line, where, message, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_text(YAML + line + "\n")
    for words in ([], ["student.steps=4"]):
        began = time.process_time()
        assert cli.main(["plan", str(path), *words]) == 2 and time.process_time() - began < 5
        error = capsys.readouterr().err
        place = f", line {where[0]}, column {where[1]}: " if where else ", line "
        assert f"{path}{place}" in error and message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (YAML.encode("utf-16"), ", line 1, column 1: not UTF-8 (byte 0xff)"),
        (
            YAML.replace("question: x", "question: é").encode("latin-1"),
            ", line 5, column 11: not UTF-8 (byte 0xe9)",
        ),
        (b"", ", line 1, column 1: a file of settings is a mapping"),
        (b"5\n", ", line 1, column 1: a file of settings is a mapping"),
        (b"- a\n", ", line 1, column 1: a file of settings is a mapping"),
        (b"#" * 300_000, ": larger than 256 KiB"),
        (b"defaults: null\n", ": defaults is a list of names"),
        (b"defaults: word\n", ": defaults is a list of names"),
        (b"defaults: [mine]\n", ": its defaults lead back to itself"),
        (b"hydra: {run: {dir: x}}\n", ": hydra's own settings"),
        (b"defaults: [{override /hydra/launcher: basic}]\n", ": hydra's own settings"),
        (b"defaults: [{/student@hydra: tiny}]\n", ": hydra's own settings"),
        (b"# @package hydra\nname: a\n", ": hydra's own settings"),
    ],
)
@pytest.mark.parametrize("words", [[], ["seeds=[0]"]])
def test_a_file_that_is_no_study(data, message, words, tmp_path, capsys):
    path = tmp_path / "mine.yaml"
    path.write_bytes(data)
    assert cli.main(["plan", str(path), *words]) == 2
    error = capsys.readouterr().err
    assert f"{path}{message}" in error and error.count("\n") == 1


@pytest.mark.parametrize(
    ("first", "second"),
    [("mine", ""), ("/mine.yaml", ""), ("./other", "mine"), ("teacher: a", "/mine")],
)
def test_a_file_among_its_own_defaults_is_named_at_once(first, second, tmp_path, capsys):
    (tmp_path / "teacher").mkdir()
    (tmp_path / "mine.yaml").write_text(f"defaults:\n  - {first}\n")
    for name in ("other", "teacher/a"):
        (tmp_path / f"{name}.yaml").write_text(f"defaults: [{second}]\n")
    began = time.process_time()
    assert cli.main(["plan", str(tmp_path / "mine.yaml")]) == 2
    assert "its defaults lead back to itself" in capsys.readouterr().err
    assert time.process_time() - began < 2


def test_an_alias_and_words_that_look_like_numbers_are_plain_values(tmp_path):
    path = tmp_path / "mine.yaml"
    path.write_bytes(
        b"\xef\xbb\xbf"
        + YAML.replace("question: x\n", "").encode()
        + b"seeds: &s [0, 1_0]\ntracking: {mode: off, project: &p off}\nquestion: 1:30\n"
    )
    study = schema.load(str(path), ["baseline_seeds=2"])
    assert (study.seeds, study.tracking.project, study.question) == ([0, 10], "off", "1:30")


def test_a_file_of_another_name_is_not_read_instead(tmp_path, capsys):
    (tmp_path / "mine.yaml").write_text(YAML)
    (tmp_path / "mine.yml").write_text(YAML)
    assert (
        cli.main(["show", str(tmp_path / "mine.yml")]) == 2
        and "ends in .yaml" in capsys.readouterr().err
    )
    (tmp_path / "mine.yaml.yaml").write_text(YAML.replace("mine", "other"))
    assert schema.load(str(tmp_path / "mine.yaml.yaml"), []).name == "other"


@pytest.mark.parametrize(
    ("group", "entry"),
    [
        ("defense", "release/truncate(keep=1e999)"),
        ("defense", "release/truncate(keep=true)"),
        ("defense", "release/truncate(keep='0.5')"),
        ("defense", "release/truncate(keep=1j)"),
        ("defense", "release/truncate(keep={(1, 2): 3})"),
        ("defense", "release/top_k(k=2.5)"),
        ("defense", "release/poison(key='\\ud83d')"),
        ("task", "addition(digits=True)"),
        ("detector", "volume(window=True)"),
        ("attacker", "ask/repeats(k=1e13)"),
    ],
)
def test_a_setting_of_another_kind_is_refused(group, entry):
    with pytest.raises(BadInput, match=r"settings: .*\(got "):
        entries.resolve(group, entry)


@pytest.mark.parametrize("count", ["0", "-1", "1025", "99999999999", "1e3", "\u00b2", "x"])
@pytest.mark.parametrize("option", ["--workers", "--threads"])
def test_processes_have_bounds(option, count, capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["plan", "quickstart", option, count])
    assert "must be a whole number from 1 to 1024" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("word", "group"),
    [
        ("access", "access"),
        ("campaigns", "campaigns"),
        ("detectors", "detector"),
        ("studies", "study"),
    ],
)
def test_a_group_is_listed_by_its_name_and_by_its_plural(word, group, capsys):
    assert cli.main(["list", word]) == 0
    assert capsys.readouterr().out == f"{group}: {' '.join(catalog.names(group))}\n"


NUMBERS = ",".join(map(str, range(600)))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            ["measure.items=40590", "task=addition"],
            "40590 report items asked for, only 39398 available",
        ),
        (
            ["measure.items=104000", "task=lookup"],
            "104000 report items asked for, only 102989 available",
        ),
        (["measure.selection_items=360", "task=trace"], "360 select items asked for, only"),
        (["budget=101000", "task=addition"], "101000 query items asked for, only 99708 available"),
        (
            ["provider.traces=1000000", "task=addition", "defense=decoding/antidistillation"],
            "and as many for a proxy",
        ),
        ([f"seeds=[{NUMBERS}]", "baseline_seeds=980"], "make more than 10000 students and exams"),
        (["search=equal", "search.trials=1000"], "cells make more than 10000 students and exams"),
        (
            [
                "measure.teacher_seeds=1000",
                "own=worked",
                "task=[addition,trace,lookup]",
                "attacker=strongest",
            ],
            "make more than 10000 students and exams",
        ),
    ],
)
def test_what_nobody_can_wait_for_is_refused_at_once(words, message, capsys):
    with limited(5):
        assert cli.main(["plan", "quickstart", *words]) == 2
    error = capsys.readouterr().err
    assert message in error and error.count("\n") == 1


def whole_numbers(shape, place=()):
    """Every setting of a JSON schema that is a whole number, by its place."""
    inner = (
        shape.items()
        if isinstance(shape, dict)
        else enumerate(shape)
        if isinstance(shape, list)
        else ()
    )
    if (
        isinstance(shape, dict)
        and shape.get("type") == "integer"
        and not {"const", "enum"} & {*shape}
    ):
        yield place, shape
    for name, child in inner:
        yield from whole_numbers(child, (*place, name))


def test_every_whole_number_has_bounds():
    numbers = dict(whole_numbers(schema.schema()))
    assert len(numbers) > 150
    assert not [
        place for place, shape in numbers.items() if not {"minimum", "exclusiveMinimum"} & {*shape}
    ]
    most = {
        place: shape.get("maximum", shape.get("exclusiveMaximum", 1e99))
        for place, shape in numbers.items()
    }
    assert not [
        place
        for place, value in most.items()
        if value > 10**7 and not {"exchanges", "where"} & {*place}  # where: a column's values
    ]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["seeds=[0]", "seeds=[0]"], "override 'seeds=[0]': seeds is set already, by 'seeds=[0]'"),
        (
            ["student.steps=1", "+student.steps=2"],
            "student.steps is set already, by 'student.steps=1'",
        ),
        (
            ["attacker=sft", "seeds=[0]", "attacker=solo"],
            "attacker is set already, by 'attacker=sft'",
        ),
    ],
)
def test_a_key_is_set_once(words, message, capsys):
    for verb in ("plan", "show"):
        assert cli.main([verb, "quickstart", *words]) == 2
        error = capsys.readouterr().err
        assert message in error and error.count("\n") == 1


@pytest.mark.parametrize(
    "words", [["report", "nothing"], ["run", "my.yaml"], ["list", "defence"], ["show"]]
)
def test_what_does_not_exist_is_named_with_what_does(words, capsys):
    assert cli.main(words) == 2
    error = capsys.readouterr().err
    assert error.count("\n") == 1 and ("there are" in error or "studies by name" in error)


def test_an_unknown_option_is_refused(capsys):
    with pytest.raises(SystemExit, match="2"):
        cli.main(["plan", "quickstart", "--wrokers", "2"])
    with pytest.raises(SystemExit, match="2"):
        cli.main(["plan", "quickstart", "--workers", "0"])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("{", "line 2: not JSON"),
        ('{"prompt": 1, "answer": "x"}', "line 2: prompt must be a string, got 1"),
        ('{"prompt": "1+1="}', "line 2: answer must be a string, got None"),
        (
            '{"prompt": "x", "answer": "y", '
            '"logprobs": [{"ids": [], "values": []}, {"ids": [], "values": []}]}',
            "line 2: token_ids and logprobs",
        ),
        ('{"prompt": "x", "answer": "y", "attempt": "1"}', "line 2: attempt must be a whole"),
        ('{"prompt": "x", "answer": "y"}', r"no answer to at least 798 prompts: it has 2 answers"),
    ],
)
def test_a_broken_recording_is_refused_before_anything_runs(line, message, tmp_path, capsys):
    path = tmp_path / "recorded.jsonl"
    path.write_text('{"prompt": "ok", "answer": "ok"}\n' + line + "\n")
    assert (
        cli.main(
            [
                "plan",
                "quickstart",
                "teacher=recorded",
                f"teacher.path={path}",
                "defense=release/truncate",
                "attacker=sft",
            ]
        )
        == 2
    )
    error = capsys.readouterr().err
    assert re.search(message, error) and error.count("\n") == 1


def test_a_recording_cannot_be_decoded_anew(tmp_path, capsys):
    path = tmp_path / "recorded.jsonl"
    exam = entries.build_task("addition")
    seeds = [*range(6), 900, *range(1000, 1006)]  # of students, floors and the identity control

    def recorded(seeds):
        items = exam.items("report", 300, 0) + [
            i for seed in seeds for i in exam.items("query", 800, seed)
        ]
        path.write_text(
            "".join(
                json.dumps({"prompt": i.prompt.text, "answer": i.solution}) + "\n" for i in items
            )
        )

    words = [
        "plan",
        "quickstart",
        "teacher=recorded",
        f"teacher.path={path}",
        "task=addition",
        "attacker=sft",
    ]
    for lost in (5, 900, 1005):
        recorded([seed for seed in seeds if seed != lost])
        questions._opened.cache_clear()
        assert cli.main([*words, "defense=release/truncate"]) == 2
        assert "no answer to" in capsys.readouterr().err
    recorded(seeds)
    questions._opened.cache_clear()
    assert cli.main([*words, "defense=release/truncate"]) == 0
    assert cli.main([*words, "defense=decoding/perturbed"]) == 2
    assert "is recorded and can only be edited" in capsys.readouterr().err


@pytest.mark.parametrize("where", ["file", "proc"])
def test_a_folder_that_cannot_be_written(where, tmp_path, capsys):
    (tmp_path / "file").write_text("")
    folder = tmp_path / "file" / "runs" if where == "file" else Path("/proc/runs")
    assert cli.main(["run", "quickstart", "--runs", str(folder), *STUDY]) == 2
    error = capsys.readouterr().err
    assert "cannot be written" in error and error.count("\n") == 1


def test_a_full_disk_loses_nothing(tmp_path):
    failed = apart(command(tmp_path), tmp_path / "said", largest=40_000)
    failed.join()
    error = (tmp_path / "said" / "err").read_text()
    lines = [line for line in error.splitlines() if not line.startswith("note: ")]
    assert failed.exitcode == 2 and len(lines) == 1, error
    assert "the same command continues" in error
    run(tmp_path)


def test_two_processes_share_one_folder(tmp_path):
    both = {
        name: apart(command(tmp_path, "--json"), tmp_path / name) for name in ("first", "second")
    }
    for process in both.values():
        process.join()
    rows = [json.loads((tmp_path / name / "out").read_text()) for name in both]
    assert [one.exitcode for one in both.values()] == [0, 0] and rows[0] == rows[1]


def test_an_altered_result_is_named(small, tmp_path, capsys):
    shutil.copytree(small, tmp_path, dirs_exist_ok=True)
    arm = plan.make(schema.load("quickstart", STUDY)).arms[0]
    path = tmp_path / "store" / "evaluation" / arm.exam.key / "grades.parquet"
    path.write_bytes(path.read_bytes()[:-1])
    assert cli.main(["report", "quickstart", "--runs", str(tmp_path), *STUDY]) == 2
    assert re.search("grades.parquet: missing or altered", capsys.readouterr().err)


@pytest.mark.parametrize(
    "entry", ["a(keep=-1e-3, keep=2)", "a(path='b=/c', 2)", "a(path='/x' + 1)", "a(keep=.5.)"]
)
def test_quotes_are_asked_for_only_where_they_lack(entry):
    with pytest.raises(BadInput, match="with each key once$"):
        grammar.parse_entry(entry)


@pytest.mark.parametrize("verb", ["run", "plan", "report", "teachers"])
def test_a_command_without_words_asks_for_what_it_needs_alone(verb, capsys):
    """Overrides are optional."""
    with pytest.raises(SystemExit):
        cli.main([verb])
    error = capsys.readouterr().err
    assert error.endswith("the following arguments are required: study\n")


def test_overrides_stand_behind_options_as_well_and_are_of_one_call_alone():
    words = ["run", "first", "--json", "seeds=[0]"]
    assert cli._parse(words)["overrides"] == ["seeds=[0]"] == cli._parse(words)["overrides"]
    assert cli._parse(["run", "first", "a=1", "--json", "b=2"])["overrides"] == ["a=1", "b=2"]
    assert cli._parse(["run", "first"])["overrides"] == []
