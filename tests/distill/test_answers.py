import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from distill.completions import (
    BadInput,
    Completion,
    Interface,
    Logprobs,
    read_completions,
    write_completions,
)

KEPT = Logprobs(
    np.array([[3, 1], [2, -1]], np.int32), np.array([[-0.5, -1.5], [-0.25, -np.inf]], np.float32)
)


def test_answers_come_back_as_they_were(tmp_path):
    answers = [
        Completion("a", "1+1=", "2", (4, 5), True, KEPT, 2.0, 0.25),
        Completion("b", "ü⚙", "", ()),
    ]
    write_completions(tmp_path / "a.parquet", answers)
    first, second = read_completions(tmp_path / "a.parquet")
    assert (first.text, first.token_ids, first.passes, first.l1) == ("2", (4, 5), 2.0, 0.25)
    assert np.array_equal(first.logprobs.ids_TK, KEPT.ids_TK)
    assert np.array_equal(first.logprobs.values_TK, KEPT.values_TK)
    assert second == answers[1]


@given(st.text(), st.text())
def test_any_text_survives(tmp_path_factory, prompt, text):
    path = tmp_path_factory.mktemp("a") / "a.parquet"
    answers = [
        Completion(
            "x", prompt.encode("utf-8", "ignore").decode(), text.encode("utf-8", "ignore").decode()
        )
    ]
    write_completions(path, answers)
    assert read_completions(path) == answers


def test_equal_answers_give_equal_bytes(tmp_path):
    for name in ("a", "b"):
        write_completions(tmp_path / name, [Completion("a", "p", "t", (1,), True, KEPT)])
    assert (tmp_path / "a").read_bytes() == (tmp_path / "b").read_bytes()


@pytest.mark.parametrize("share", [0.0, 0.3, 0.9, 0.99])
def test_a_truncated_file_is_an_error(tmp_path, share):
    path = tmp_path / "a.parquet"
    write_completions(path, [Completion(str(i), "p" * i, "t") for i in range(50)])
    path.write_bytes(path.read_bytes()[: int(len(path.read_bytes()) * share)])
    with pytest.raises(BadInput, match="not a whole answer file"):
        read_completions(path)


def test_an_altered_row_is_an_error(tmp_path):
    import pyarrow.parquet as pq

    path = tmp_path / "a.parquet"
    write_completions(path, [Completion("a", "p", "right")])
    table = pq.read_table(path)
    pq.write_table(
        table.set_column(2, "text", [["wrong"]]).replace_schema_metadata(table.schema.metadata),
        path,
    )
    with pytest.raises(BadInput, match="answer 0 does not match"):
        read_completions(path)


@pytest.mark.parametrize(("kind", "k"), [("text", 3), ("top_k", 0), ("full", 1)])
def test_a_profile_with_the_wrong_k_is_refused(kind, k):
    with pytest.raises(BadInput, match="k must be"):
        Interface(kind, k)
