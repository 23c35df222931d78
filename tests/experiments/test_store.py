import itertools
import os
import subprocess
import sys

import pytest

from distill.completions import HERE, BadInput, write_bytes
from experiments.stages.stage import canonical, key
from experiments.store import Origin, Store, sealed


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


def test_a_file_that_somebody_added_is_refused(tmp_path):
    """Libraries read whatever has the right name in a model's folder."""
    store = Store(tmp_path)
    folder = store.make("s", "k", lambda out: (out / "x").write_text("1"))
    (folder / ".DS_Store").write_text("a desktop's own")
    assert store.open("s", "k") == folder
    (folder / "adapter").mkdir()
    (folder / "adapter" / "config.json").write_text("{}")
    with pytest.raises(BadInput, match="adapter/config.json: was not there when .* was made"):
        store.open("s", "k")


def test_what_a_failure_of_power_emptied_is_named(tmp_path):
    """A rename may reach the disk before the bytes of the file do."""
    store = Store(tmp_path)
    for name in ("x", "done.json"):
        folder = store.make("s", name, lambda out: (out / "x").write_text("1"))
        (folder / name).write_bytes(b"")
        with pytest.raises(BadInput, match=f"s/{name}.*delete .*to make it again"):
            store.open("s", name)


def test_what_another_user_left_can_be_read_and_is_refused_in_one_line(tmp_path):
    """A store may be shared: what its folders let nobody else write is no traceback."""
    if os.getuid():
        pytest.skip("only root can be two users")
    root, before = tmp_path / "store", os.umask(0o002)
    try:
        Store(root).make("s", "k", lambda out: (out / "x").write_text("1"))
    finally:
        os.umask(before)
    for folder in (*tmp_path.parents, tmp_path):
        folder.chmod(folder.stat().st_mode | 0o055)
    assert as_another_user(lambda: Store(root).open("s", "k")) == ""
    assert "Permission denied); nothing done is lost" in as_another_user(lambda: again(root))


def again(root):
    Store(root).make("s", "k", lambda out: (out / "x").write_text("2"), current=lambda: False)


def as_another_user(work):
    """What the user nobody is told where work is refused."""
    reader, writer = os.pipe()
    child = os.fork()
    if not child:
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            work()
        except BadInput as error:
            os.write(writer, str(error).encode())
        except BaseException as error:
            os.write(writer, f"traceback: {error!r}".encode())
        os._exit(0)
    os.close(writer)
    os.waitpid(child, 0)
    with os.fdopen(reader) as pipe:
        return pipe.read()


@pytest.mark.parametrize(
    "content",
    [
        b'{"files":{}}',
        b'{"files":[]}',
        b"{}",
        b"[]",
        b"7",
        b"",
        b"\xff\xfe",
        b"[" * 100_000,
        b'{"files":{"x":1}}',
        b'{"files":{"../../y":"0"},"seconds":1,"cpu_seconds":1}',
        b'{"files":{"/etc/passwd":"0"},"seconds":1}',
        b'{"files":{"x":"0"}}',
        b'{"files":{"x":"0"},"seconds":"1","cpu_seconds":1}',
    ],
)
def test_a_damaged_done_json_is_one_line_and_no_result(tmp_path, content):
    folder = Store(tmp_path).make("s", "k", lambda out: (out / "x").write_text("1"))
    (folder / "done.json").write_bytes(content)
    for verb in (Store(tmp_path).open, Store(tmp_path).done):
        with pytest.raises(
            BadInput, match="not a finished result.*delete it to make it again"
        ) as caught:
            verb("s", "k")
        assert "\n" not in str(caught.value)


def test_no_flipped_bit_of_done_json_passes(tmp_path):
    store = Store(tmp_path)
    folder = store.make(
        "s", "k", lambda out: (out / "x").write_text("1"), Origin(inputs={"a": "0123"})
    )
    path = folder / "done.json"
    # 4e-05 and 4E-05 are one number and one bit apart; the clock decides whether there is one.
    whole = sealed(store.done("s", "k").model_copy(update={"seconds": 4e-05}))
    for place, bit in itertools.product(range(len(whole)), range(8)):
        path.write_bytes(whole[:place] + bytes([whole[place] ^ 1 << bit]) + whole[place + 1 :])
        try:
            done = store.done("s", "k")
        except BadInput:
            continue
        # Without the word there is no seal to check: those of before have none.
        assert done.files and done.inputs and b'"sha256":' not in path.read_bytes()


def test_what_was_never_made_is_said_so(tmp_path):
    with pytest.raises(BadInput, match="s/k: is not there yet; `distill-resist run` makes it"):
        Store(tmp_path).done("s", "k")


def test_files_can_be_read_by_whom_the_umask_lets(tmp_path):
    before = os.umask(0o027)
    try:
        folder = Store(tmp_path).make(
            "s", "k", lambda out: os.close(os.open(out / "x", os.O_CREAT, 0o600))
        )
    finally:
        os.umask(before)
    assert [oct(path.stat().st_mode & 0o777) for path in sorted(folder.iterdir())] == [
        "0o640",
        "0o640",
    ]


def test_what_killed_writers_left_is_swept_and_what_others_write_is_not(tmp_path):
    dead = subprocess.Popen([sys.executable, "-c", "pass"])
    dead.wait()
    (tmp_path / "s" / ".alike").mkdir(parents=True)
    left = {
        tmp_path / "s" / f".x.{host}.{pid}.00.part": (host, pid)
        for host in (HERE, "otherone")
        for pid in (dead.pid, os.getpid(), 2**40)
    }
    left |= {tmp_path / "s" / ".alike" / f".y.{HERE}.{dead.pid}.00.part": (HERE, dead.pid)}
    for path in left:
        path.touch()
    Store(tmp_path).sweep()
    remaining = {path for path, (host, pid) in left.items() if host != HERE or pid == os.getpid()}
    assert {path for path in left if path.exists()} == remaining


def test_a_folder_is_written_to_by_two_at_once(tmp_path, monkeypatch):
    """Two machines may have processes of one number; here both write before either is done."""
    names = []
    monkeypatch.setattr("pathlib.Path.replace", lambda part, path: names.append(part.name))
    for _ in range(2):
        write_bytes(tmp_path / "x", b"")
    assert len(set(names)) == 2 and all(HERE in name for name in names)


def test_keys_depend_on_settings_and_inputs_and_not_on_their_order():
    assert key("s", {"a": 1, "b": 2}, {}) == key("s", {"b": 2, "a": 1}, {})
    others = [key("s", 2, {}), key("t", 1, {}), key("s", 1, {"x": "k"}), key("s", 1, {"y": "k"})]
    assert len({key("s", 1, {}), *others}) == 5
    assert canonical({"b": 1, "a": [1]}) == '{"a":[1],"b":1}'


def test_what_is_no_longer_current_is_built_again_beside_and_then_replaced(tmp_path):
    store, wanted = Store(tmp_path), ["1"]

    def build(out):
        assert store.has("s", "k") == (wanted[0] != "1")
        (out / "x").write_text(wanted[0])

    def made():
        folder = store.make(
            "s", "k", build, current=lambda: (store.folder("s", "k") / "x").read_text() == wanted[0]
        )
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
            store.make("s", "k", build, Origin(code={"module": code}))
        except RuntimeError:
            pass
    assert seen == [False, True, False, True] and store.has("s", "k")
    assert sorted(path.name for path in (tmp_path / "s").iterdir()) == [".k.lock", "k"]


def test_results_of_another_version_are_named_and_left_alone(tmp_path):
    from experiments.planning.costs import SECONDS

    store = Store(tmp_path)
    store.make("answers", "old", lambda out: (out / "x").write_text("x"))
    store.make("teacher", "new", lambda out: (out / "x").write_text("x"))
    (tmp_path / "empty").mkdir()
    assert store.other_kinds(SECONDS) == ["answers"]
    assert store.open("answers", "old").is_dir()
    assert Store(tmp_path / "none").other_kinds(SECONDS) == []
