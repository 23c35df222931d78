"""Components of others: found, checked, run, recorded; and what is wrong with one is one line."""

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from experiments import cli, provenance
from experiments.planning import plan
from experiments.settings import catalog, schema
from experiments.settings.components import ComponentSpec
from experiments.settings.defenses import parse_defense
from tests.experiments.small import STUDY, last

ROOT = Path(__file__).parents[2]
SAMPLE = ROOT / "tests" / "data" / "plugins"
PAGE = (ROOT / "docs" / "api.md").read_text()
REPLACED = ("task=", "defense=", "name=", "seeds=", "baseline_seeds=")
SMALLEST = [word for word in STUDY if not word.startswith(REPLACED)]
SMALLEST += ["seeds=[0]", "baseline_seeds=1"]
MASKED, DOUBLING = Path("defense/release/masked.py"), Path("task/doubling.py")


@pytest.fixture(autouse=True)
def none_in_use():
    yield
    catalog.use_plugins([])


@pytest.fixture
def folder(tmp_path):
    """A copy of the sample folder."""
    return Path(shutil.copytree(SAMPLE, tmp_path / "plugins"))


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def called(capsys, *words):
    code = cli.main([str(word) for word in words])
    return code, capsys.readouterr()


def test_a_script_of_the_page_runs_and_its_export_says_what_it_needs(folder, tmp_path, capsys):
    """Without `if __name__ == "__main__"`, in processes of their own."""
    (code,) = re.findall("```python\n(.*?)```", PAGE, re.S)
    code = code.replace('"defense=release/masked"', f'"defense=release/masked", *{SMALLEST!r}')
    code = code.replace("my_plugins", str(folder)).replace('"runs")', '"runs", workers=2)')
    script = tmp_path / "script.py"
    script.write_text(code + 'print(home, "is all")\n')
    environment = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    made = subprocess.run(
        [sys.executable, script], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert made.returncode == 0, made.stderr
    assert made.stdout.count("is all") == 1 and "release/masked" in made.stdout
    (home,) = (tmp_path / "runs").glob("first*")
    manifest = json.loads((home / "manifest.json").read_text())
    assert {*manifest["plugins"]} == {"defense/release/masked", "task/doubling"}
    assert str(tmp_path) not in (home / "manifest.json").read_text()
    code, output = called(capsys, "verify", home)
    assert code == 2 and output.err.count("\n") == 1
    assert "needs plugins that are not here: defense/release/masked, task/doubling" in output.err
    assert called(capsys, "verify", home, "--plugins", folder)[0] == 0
    # A comment is no other code, but another file; and what a run needs, its manifest says.
    commented = Path(shutil.copytree(folder, tmp_path / "commented"))
    with (commented / "defense/release/masked.py").open("a") as file:
        file.write("# a comment\n")
    code, output = called(capsys, "verify", home, "--plugins", commented)
    assert code == 0 and "another file of plugin defense/release/masked" in output.out
    del manifest["plugins"]["task/doubling"]
    (home / "manifest.json").write_text(json.dumps(manifest, indent=1))
    code, output = called(capsys, "verify", home, "--plugins", folder)
    assert code == 1 and "plugins" in output.out


def test_its_code_is_in_the_address_of_what_it_makes_and_its_comments_are_not(folder):
    def codes():
        catalog.use_plugins([folder])
        words = [*SMALLEST, "name=mine", "task=doubling", "defense=release/masked"]
        stages = plan.make(schema.load("quickstart", words)).stages
        return {stage.key: provenance.modules(stage) for stage in stages}

    def changed(after):
        assert after.keys() == before.keys()
        return {key for key in before if before[key] != after[key]}

    before = codes()
    module = "distill_resist_plugins.defense.release.masked"
    using = {key for key, code in before.items() if module in code}
    assert using and using < before.keys()
    edit(folder / MASKED, "from pydantic", "# a remark\nfrom pydantic")
    assert changed(codes()) == set()
    edit(folder / MASKED, 'masked += "x"', 'masked += "y"')
    assert changed(codes()) == using


def test_the_sample_keeps_every_claim(capsys):
    code, output = called(capsys, "check-plugin", SAMPLE)
    assert code == 0 and "failed" not in output.out and "ok     it keeps the order" in output.out


BROKEN = {
    "it is the identity": (MASKED, "    traits = ", "    is_identity = False\n    traits = "),
    "it keeps the final answer": (MASKED, "masked + rest", "masked + rest + '9'"),
    "it says what": (MASKED.with_suffix(".yaml"), "1.0  #", "0.0  #"),
    "it counts its passes": (MASKED, "keeps_answer=True", "extra_forward_passes=1.0"),
    "it says what it is": (MASKED, "a stranger's", "-"),
    "it says the same": (
        MASKED,
        "hidden = letter",
        "hidden = __import__('os').urandom(1)[0] % 2 and letter",
    ),
    "its config has": (MASKED.with_suffix(".yaml"), "name: release/masked", "name: release/top_k"),
    "its config shows": (DOUBLING.with_suffix(".yaml"), "settings:", "settings: {}  #"),
    "its config begins": (DOUBLING.with_suffix(".yaml"), "# Doubling", "#Doubling"),
    "no answer is that": (DOUBLING, "str(2 * index))", '"7")'),
    "its alphabet": (DOUBLING, '"0123456789+*=# "', '"0123456789+*="'),
    "every worked solution": (DOUBLING, "0|[1-9][0-9]*", "[0-9]{6}"),
}


@pytest.mark.parametrize("claim", BROKEN)
def test_a_broken_claim_is_named(folder, capsys, claim):
    file, before, after = BROKEN[claim]
    edit(folder / file, before, after)
    shutil.rmtree(folder / ("task" if file.parts[0] == "defense" else "defense"))
    code, output = called(capsys, "check-plugin", folder)
    assert code == 2 and f"failed {claim}" in output.out
    assert re.fullmatch("distill-resist: check-plugin .* claims are not kept\n", output.err)


def test_what_a_plugin_raises_is_named_with_its_line(folder, capsys):
    edit(folder / MASKED, "hidden = ", "hiden = ")
    code, output = called(capsys, "check-plugin", folder)
    line = 1 + (folder / MASKED).read_text().splitlines().index("        left -= hidden")
    assert code == 2
    reason = f"raises NameError in masked.py, line {line}: name 'hidden' is not defined"
    assert output.out.count(reason) == 1 < output.out.count(": as above")  # one line for one fault


def test_what_a_plugin_raises_while_a_study_is_planned_is_one_line(folder, tmp_path, capsys):
    edit(folder / MASKED, "hidden = ", "hiden = ")
    words = ("plan", "first", "defense=release/masked", "--runs", tmp_path, "--plugins", folder)
    code, output = called(capsys, *words)
    assert code == 2 and output.err.count("\n") == 1
    assert "plugin defense/release/masked: masked.py, line 18: NameError: name" in output.err


def test_what_a_plugin_raises_in_a_worker_is_one_line(folder, tmp_path, capsys):
    in_worker = "__import__('multiprocessing').parent_process()"
    edit(folder / MASKED, "hidden = ", f"assert not {in_worker}\n        hidden = ")
    words = ("run", "quickstart", "--runs", tmp_path, "--workers", "1", "--plugins", folder)
    settings = last(*STUDY, "defense=release/masked", "name=raises")
    code, output = called(capsys, *words, *settings)
    assert code == 2 and "Traceback" not in output.err
    assert "plugin defense/release/masked: masked.py, line 17: AssertionError" in output.err


def test_a_name_that_may_be_a_plugins_is_told_of_the_option(tmp_path, capsys):
    code, output = called(capsys, "plan", "first", "defense=release/masked", "--runs", tmp_path)
    assert code == 2 and "; a plugin's: --plugins FOLDER)" in output.err
    words = ("plan", "first", "defense=release/maskd", "--runs", tmp_path, "--plugins", SAMPLE)
    code, output = called(capsys, *words)
    assert code == 2 and "did you mean 'release/masked'" in output.err
    assert "--plugins" not in output.err


def rename(folder):
    for path in (MASKED, MASKED.with_suffix(".yaml")):
        (folder / path).rename(folder / path.with_stem("truncate"))


def link(folder):
    elsewhere = folder.parent / "elsewhere.py"
    (folder / MASKED).rename(elsewhere)
    (folder / MASKED).symlink_to(elsewhere)


def link_a_folder(folder):
    shutil.move(folder / "task", folder.parent / "elsewhere")
    (folder / "task").symlink_to(folder.parent / "elsewhere")


def empty(folder):
    shutil.rmtree(folder)
    folder.mkdir()


def write(path, text):
    return lambda folder: (folder / path).write_text(text)


def remove(path):
    return lambda folder: (folder / path).unlink()


WRONG = {
    "a name that is shipped": (rename, "'release/truncate' is shipped; give .* another name"),
    "no config": (remove(MASKED.with_suffix(".yaml")), "has no config .*masked.yaml"),
    "no code": (remove(MASKED), "masked.yaml: has no masked.py beside it"),
    "a link": (link, "masked.py: is a link; a plugin's files lie in its own folder"),
    "a folder that is a link": (link_a_folder, "is a link; a plugin's files lie in its own"),
    "an empty folder": (empty, "holds no plugin; one is a Python file and a YAML file"),
    "no folder": (shutil.rmtree, "plugins .*: no such folder"),
    "a package": (write("defense/__init__.py", ""), "are no packages; remove it"),
    "another place": (write("defense/mine.py", ""), "a plugin lies in defense/trained, defense/"),
    "a name of signs": (write("task/a-b.py", ""), "its name is of letters, digits and _"),
    "an error at import": (write(MASKED, "x = 1\nPart\n"), "masked.py, line 2: NameError: name"),
    "an exit at import": (write(MASKED, "raise SystemExit"), "masked.py, line 1: SystemExit"),
    "no Python": (write(MASKED, "x = 1\nx = = 2\n"), "masked.py, line 2: SyntaxError: invalid"),
    "no settings": (write(MASKED, "class Defense: ..."), "masked.py holds no class Settings"),
    "no defence": (
        write(MASKED, "from defenses import DefenseSettings as Settings"),
        "masked.py holds no class Defense",
    ),
    "another kind": (
        write(MASKED, "from defenses import DefenseSettings as Settings\nclass Defense: ..."),
        r"Defense is no defenses\.\w+",
    ),
    "a setting of another kind": (
        lambda folder: edit(folder / MASKED.with_suffix(".yaml"), "1.0", "2.0"),
        "share: must be at most 1",
    ),
}


@pytest.mark.parametrize("what", WRONG)
@pytest.mark.parametrize("command", ["plan", "check-plugin"])
def test_what_is_wrong_is_one_line(folder, tmp_path, capsys, what, command):
    spoil, line = WRONG[what]
    spoil(folder)
    words = ["first", "defense=release/masked", "--runs", tmp_path / "runs", "--plugins", folder]
    code, output = called(capsys, command, *(words if command == "plan" else [folder]))
    assert code == 2 and output.err.count("\n") == 1
    assert re.search(line, output.err), output.err


def test_two_folders_with_the_same_plugin_or_helper_are_refused(folder, tmp_path, capsys):
    other = Path(shutil.copytree(folder, tmp_path / "other"))
    words = ("list", "task", "--plugins", folder, "--plugins")
    code, output = called(capsys, *words, other)
    assert code == 2 and re.search("plugin .*: is there twice: .* and ", output.err)
    shutil.rmtree(other / "defense")
    (other / DOUBLING).rename(other / "task" / "tripling.py")
    (other / DOUBLING).with_suffix(".yaml").rename(other / "task" / "tripling.yaml")
    for place in (folder, other):
        (place / "task" / "_helper.py").write_text("")
    code, output = called(capsys, *words, other)
    assert code == 2 and "_helper.py has the same name" in output.err
    (other / "task" / "_helper.py").unlink()
    code, output = called(capsys, *words, other)
    listed = "addition dataset doubling gsm8k lookup reasoning_gym tools trace tripling"
    assert code == 0 and output.out == f"task: {listed}\n"


def test_a_wrong_folder_leaves_those_in_use(folder, tmp_path):
    catalog.use_plugins([folder])
    with pytest.raises(Exception, match="no such folder"):
        catalog.use_plugins([tmp_path / "nowhere"])
    assert "doubling" in catalog.names("task")


def test_the_environment_names_folders(folder, monkeypatch):
    monkeypatch.setenv(catalog.VARIABLE, str(folder))
    catalog.use_plugins([])
    assert "doubling" in catalog.names("task")


POINTS = "[distill_resist.defenses]\nrelease/masked = strangers.masked\n"


def install(site, name, points):
    """What an installer leaves behind of a package's metadata; the folder of it."""
    about = site / f"{name.replace('-', '_')}-1.0.dist-info"
    about.mkdir(parents=True)
    (about / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1.0\n")
    (about / "entry_points.txt").write_text(points)
    return about


@pytest.fixture
def site(folder, tmp_path, monkeypatch):
    """A folder of installed packages, with one whose plugin is the sample's defence."""
    site = tmp_path / "site"
    install(site, "strange-parts", POINTS)
    shutil.copytree(folder / "defense" / "release", site / "strangers")
    monkeypatch.syspath_prepend(str(site))
    yield site
    for name in [name for name in sys.modules if name.partition(".")[0] == "strangers"]:
        del sys.modules[name]
    monkeypatch.undo()


def test_a_package_names_its_modules(site):
    package = site / "strangers"
    about = site / "strange_parts-1.0.dist-info"
    (package / "__init__.py").write_text("raise RuntimeError('imported before it is used')\n")
    catalog.use_plugins([])
    assert catalog.module_of("defense", "release/masked") == "strangers.masked"
    (package / "__init__.py").write_text("")
    spec = parse_defense("release/masked(share=0.5)").spec
    assert spec == [ComponentSpec(name="release/masked", settings={"share": 0.5})]
    (about / "entry_points.txt").write_text(POINTS.replace("masked\n", "gone\n"))
    with pytest.raises(Exception, match="entry point 'strangers.gone' is no module"):
        catalog.use_plugins([])


def test_the_plugins_of_a_package_are_checked_by_its_name(site, folder, capsys):
    (site / "strangers" / "__init__.py").write_text("")
    catalog.use_plugins([])
    shutil.rmtree(folder / "defense")
    for name in ("strange-parts", "Strange_Parts"):
        code, output = called(capsys, "check-plugin", name, "--plugins", folder)
        assert code == 0 and "failed" not in output.out
        assert "defense/release/masked" in output.out and "task/" not in output.out


def test_a_claim_that_a_package_breaks_is_named(site, capsys):
    (site / "strangers" / "__init__.py").write_text("")
    edit(site / "strangers" / MASKED.name, "a stranger's", "-")
    catalog.use_plugins([])
    code, output = called(capsys, "check-plugin", "strange-parts")
    assert code == 2 and "failed it says what it is" in output.out
    assert "check-plugin strange-parts: 1 of " in output.err


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("nobody", "no such folder, and no installed package of that name"),
        ("a/b", "no such folder, and no installed package of that name"),
        ("plain", "the package names no plugin as an entry point of distill_resist.defenses, "),
    ],
)
def test_a_package_without_plugins_is_one_line(site, capsys, name, line):
    install(site, "plain", "[console_scripts]\nplain = plain:main\n")
    catalog.use_plugins([])
    code, output = called(capsys, "check-plugin", name)
    assert code == 2 and output.err.count("\n") == 1 and f"plugins {name}: {line}" in output.err
    assert "(packages with plugins: strange-parts)" in output.err
