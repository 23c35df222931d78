import pytest

from distill.answers import BadInput
from experiments.stage import canonical, key
from experiments.store import Store


def test_the_same_stage_is_never_done_twice(tmp_path):
    store, calls = Store(tmp_path), []

    def build(out):
        calls.append(1)
        (out / "x").write_text("1")

    for _ in range(2):
        folder = store.make("s", "k", build)
    assert len(calls) == 1 and (folder / "x").read_text() == "1"


def test_a_failed_build_leaves_nothing_that_looks_finished(tmp_path):
    def fails(out):
        (out / "x").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        Store(tmp_path).make("s", "k", fails)
    assert not Store(tmp_path).has("s", "k")


def test_an_altered_file_is_refused(tmp_path):
    folder = Store(tmp_path).make("s", "k", lambda out: (out / "x").write_text("1"))
    (folder / "x").write_text("2")
    with pytest.raises(BadInput, match="altered"):
        Store(tmp_path).open("s", "k")


@pytest.mark.parametrize("told", ['{"files":{}}', '{"files":[]}', "{}", "[]", "7", ""])
def test_a_result_that_names_no_file_is_none(tmp_path, told):
    folder = Store(tmp_path).make("s", "k", lambda out: (out / "x").write_text("1"))
    (folder / "done.json").write_text(told)
    with pytest.raises(BadInput, match="not a finished result"):
        Store(tmp_path).open("s", "k")


def test_keys_depend_on_settings_and_inputs_and_not_on_their_order():
    assert key("s", {"a": 1, "b": 2}, []) == key("s", {"b": 2, "a": 1}, [])
    assert len({key("s", 1, []), key("s", 2, []), key("t", 1, []), key("s", 1, ["x"])}) == 4
    assert canonical({"b": 1, "a": [1]}) == '{"a":[1],"b":1}'


def test_what_is_no_longer_current_is_built_again_beside_and_then_replaced(tmp_path):
    store, wanted = Store(tmp_path), ["1"]

    def build(out):
        assert store.has("s", "k") == (wanted[0] != "1")
        (out / "x").write_text(wanted[0])

    def made():
        folder = store.make("s", "k", build, current=lambda: (store.folder("s", "k") / "x").read_text() == wanted[0])
        return (folder / "x").read_text()

    assert made() == "1"
    wanted[0] = "2"
    assert made() == made() == "2"
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [".k.lock", "k"]


def test_a_build_that_fails_leaves_the_old_result(tmp_path):
    store = Store(tmp_path)
    store.make("s", "k", lambda out: (out / "x").write_text("1"))

    def fails(out):
        (out / "x").write_text("half")
        raise RuntimeError("killed")

    with pytest.raises(RuntimeError):
        store.make("s", "k", fails, current=lambda: False)
    assert (store.open("s", "k") / "x").read_text() == "1"


def test_a_checkpoint_of_other_code_is_not_continued(tmp_path):
    store, seen = Store(tmp_path), []

    def build(out):
        checkpoint = out.with_suffix(".checkpoint")
        seen.append(checkpoint.is_file())
        checkpoint.write_text("half-way")
        (out / "x").write_text("1")
        if len(seen) < 4:
            raise RuntimeError("killed")

    for code in ("a", "a", "b", "b"):
        try:
            store.make("s", "k", build, {"code": code})
        except RuntimeError:
            pass
    assert seen == [False, True, False, True] and store.has("s", "k")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [".k.lock", "k"]
