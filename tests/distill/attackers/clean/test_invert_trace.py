"""What inverters learn and are asked, and that only what all of them write, and what ends as sold,
is believed.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest

from defenses.release import answer_only, summary
from distill.attackers.clean import invert_trace
from distill.completions import BadInput, Completion
from distill.seeds import derived_seed
from tests.distill.attackers.clean.traces import (
    CLEAN,
    OWN,
    PROVIDER,
    TRUE,
    WORKED,
    completions,
    fresh,
    made,
    texts,
)


@dataclass
class Writer:
    """An inverter with a mind of its own: what it writes, by question, and whether
    it changes it.
    """

    written: dict[str, str]
    prompts: list = field(default_factory=list)
    finished: bool = True

    def generate(self, prompts, *, seed, interface):
        self.prompts += prompts
        return [
            Completion(
                one.id,
                one.text,
                self.written[one.text.partition(" #")[0]],
                finished=self.finished,
            )
            for one in prompts
        ]


@pytest.fixture
def trained(monkeypatch):
    """What every inverter is trained on and from which seed; the inverters stand in `writers`, by
    turns.
    """
    train_items, writers = [], []

    def own_model(answers, resources, seed, effort):
        train_items.append((list(answers), seed, effort))
        return writers[(len(train_items) - 1) % len(writers)]

    monkeypatch.setattr(invert_trace, "train_own_model", own_model)
    return train_items, writers


def sold(*answers):
    defense = answer_only.Defense(answer_only.Settings(), PROVIDER)
    return [defense.edit(one) for one in answers]


def test_an_answer_is_sold_without_reasoning():
    assert texts(sold(CLEAN[0])) == [f"# {TRUE[CLEAN[0].prompt]}"]


def test_what_all_write_and_ends_in_what_was_sold_is_believed_and_the_rest_dropped_or_kept(trained):
    whole, agreed, split, wrong, short = CLEAN[:5]
    answers = [whole, *sold(agreed, split, wrong, short)]
    for i in range(2):
        trained[1].append(Writer({one.prompt: one.text for one in CLEAN[:5]}))
        trained[1][i].written |= {wrong.prompt: "c=1;a=1;b=1 # x", short.prompt: answers[4].text}
    trained[1][1].written[split.prompt] = "something longer # " + TRUE[split.prompt]
    cleaned = made(invert_trace).clean(answers, OWN, seed=0)
    assert texts(cleaned) == texts([whole, agreed]) and cleaned[0] is whole
    assert cleaned[1] == replace(answers[1], text=agreed.text, token_ids=(), logprobs=None)
    everything = made(invert_trace, keep=True).clean(answers, OWN, seed=0)
    assert texts(everything) == texts([whole, agreed, *answers[2:]]) and everything[2] is answers[2]


def test_one_voter_is_believed_whenever_the_end_is_right(trained):
    trained[1].append(Writer({CLEAN[0].prompt: "anything at all # " + TRUE[CLEAN[0].prompt]}))
    cleaned = made(invert_trace, voters=1).clean(sold(CLEAN[0]), OWN, seed=0)
    assert texts(cleaned) == ["anything at all # " + TRUE[CLEAN[0].prompt]] and len(trained[0]) == 1


def test_what_inverters_learn_and_what_they_are_asked(trained):
    whole, cut = CLEAN[0], CLEAN[1]
    start = cut.text.partition(";")[0]
    answers = [*sold(whole), replace(cut, text=f"{start} # {TRUE[cut.prompt]}")]
    trained[1].extend(Writer({a.prompt: a.text for a in (whole, cut)}) for _ in range(3))
    resources = replace(OWN, worked=WORKED[:3])
    cleaned = made(invert_trace, voters=3, effort=0.4, begun=True).clean(answers, resources, seed=7)
    assert texts(cleaned) == texts([whole, cut])
    seeds = [derived_seed("invert_trace", 7, 0, voter) for voter in range(3)]
    assert [(seed, effort) for _, seed, effort in trained[0]] == [(seed, 0.4) for seed in seeds]
    for train_items, *_ in trained[0]:
        assert [(a.prompt, a.text) for a in train_items] == [
            (f"{a.prompt} # {TRUE[a.prompt]}", a.text) for a in resources.worked
        ]
    for writer in trained[1]:
        assert [(a.text, a.begin) for a in writer.prompts] == [
            (f"{whole.prompt} # {TRUE[whole.prompt]}", ""),
            (f"{cut.prompt} # {TRUE[cut.prompt]}", start),
        ]


@pytest.mark.parametrize(("begun", "begin"), [(False, ""), (True, "c=3;a")])
def test_what_was_sold_is_a_beginning_only_where_that_is_said(trained, begun, begin):
    whole = CLEAN[0]
    trained[1].append(Writer({whole.prompt: whole.text}))
    answers = [replace(whole, text=f"c=3;a # {TRUE[whole.prompt]}")]
    cleaned = made(invert_trace, voters=1, begun=begun).clean(answers, OWN, seed=0)
    assert texts(cleaned) == [whole.text]
    assert [prompt.begin for prompt in trained[1][0].prompts] == [begin]


def test_a_further_round_learns_from_what_was_believed_and_asks_for_what_is_missing(trained):
    first, second = CLEAN[:2]
    early = Writer({first.prompt: first.text, second.prompt: "no answer"})
    late = Writer({second.prompt: second.text})
    trained[1].extend([early, late])
    cleaned = made(invert_trace, voters=1, rounds=3).clean(
        sold(first, second), replace(OWN, worked=WORKED[:3]), seed=7
    )
    assert texts(cleaned) == texts([first, second])
    assert [len(held) for held, *_ in trained[0]] == [
        3,
        4,
    ]  # and no third round, in which nothing would be missing
    new = trained[0][1][0][3]
    assert (new.prompt, new.text) == (f"{first.prompt} # {TRUE[first.prompt]}", first.text)
    assert [one.text for one in late.prompts] == [f"{second.prompt} # {TRUE[second.prompt]}"]
    assert len({seed for _, seed, _ in trained[0]}) == 2


def test_with_none_believed_all_stay_as_they_were_sold(trained):
    answers = sold(*CLEAN[:3])
    trained[1].append(Writer({one.prompt: "no answer" for one in answers}))
    assert made(invert_trace).clean(answers, OWN, seed=0) == answers


def test_what_was_cut_off_is_not_written_anew_and_what_is_cut_off_is_not_believed(trained):
    short, right = sold(CLEAN[0]), {CLEAN[0].prompt: CLEAN[0].text}
    cut = [replace(one, finished=False) for one in short]
    trained[1].append(Writer(right))
    assert made(invert_trace, voters=1).clean(cut, OWN, seed=0) == cut and not trained[0]
    trained[1][:] = [Writer(right, finished=False)]
    assert made(invert_trace, voters=1, keep=True).clean(short, OWN, seed=0) == short
    assert len(trained[0]) == 1


@pytest.mark.parametrize(
    ("text", "inverters"), [("c=3;a=13+4=7 # 4", 0), ("c=3;a=3+4=7 # 4", 1), ("c=3;a=3+4=7", 0)]
)
def test_what_is_nearly_as_long_as_usual_or_has_no_final_answer_is_left_alone(
    trained, text, inverters
):
    # The usual length is 20, so 16 characters are whole and 15 are not.
    resources = replace(
        OWN, worked=[Completion("w", CLEAN[0].prompt, "x" * size + " # 4") for size in (16, 1, 30)]
    )
    trained[1].append(Writer({CLEAN[0].prompt: "no answer"}))
    answers = completions(text, prompt=CLEAN[0].prompt)
    assert made(invert_trace, voters=1, short=0.8).clean(answers, resources, seed=0) == answers
    assert len(trained[0]) == inverters


def test_who_owns_nothing_is_told_in_one_line():
    with pytest.raises(BadInput, match="clean/invert_trace: the attacker owns no worked solutions"):
        made(invert_trace).clean(CLEAN, replace(OWN, worked=[]), seed=0)


def test_a_real_inverter_writes_behind_what_was_sold():
    answers = [replace(CLEAN[0], text=f"c=3;a # {TRUE[CLEAN[0].prompt]}")]
    new = invert_trace.expand(fresh(0), answers, OWN, invert_trace.Settings(begun=True))[0]
    assert new.text.startswith("c=3;a") and new.prompt == CLEAN[0].prompt and new.token_ids == ()


def test_an_inverter_that_reads_what_was_sold_learns_from_what_the_defence_makes_of_own_traces(
    trained,
):
    """The summary is read: `4+3=7#46` to `12+34=` is not asked as `12+34= # 46` alone."""
    defense = summary.Defense(summary.Settings(keep=0.5), PROVIDER)
    resources = replace(
        OWN, worked=WORKED[:3], defense=lambda answers: [defense.edit(one) for one in answers]
    )
    clean = CLEAN[:2]
    summaries = [defense.edit(one) for one in clean]
    asks = [f"{one.prompt} {short.text}" for one, short in zip(clean, summaries, strict=True)]
    begins = [ask.partition(" #")[0] for ask in asks]
    trained[1].append(Writer(dict(zip(begins, texts(clean), strict=True))))
    part = made(invert_trace, reads="sold", voters=1)
    assert part.needs == ("fresh", "worked", "defense")
    assert texts(part.clean(summaries, resources, seed=0)) == texts(clean)
    assert [(one.prompt, one.text) for one in trained[0][0][0]] == [
        (f"{one.prompt} {defense.edit(one).text}", one.text) for one in resources.worked
    ]
    assert [one.text for one in trained[1][0].prompts] == asks
    assert asks[0] == f"{clean[0].prompt} c=5;b=6 # 6"


def test_right_answers_gain_nothing(trained):
    assert made(invert_trace).clean(CLEAN, OWN, seed=0) == CLEAN and not trained[0]
