"""Using tools over several turns: the task against a store of its own, and the loop that asks."""

import re
from dataclasses import dataclass, replace

import pytest

from distill.completions import Capabilities, Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.rendering import prompt_ids, prompt_text
from experiments.contracts import tasks as claims
from experiments.contracts import title
from experiments.settings.entries import build_task
from experiments.stages.episodes import flat, joined, play, prompts_sent
from experiments.stages.resources import checker, solutions
from experiments.tasks import Outcome, transcript

TASK = build_task("tools")
ITEMS = TASK.items("report", 60, 0)
MODULUS = TASK.settings.modulus
WHOLE = Interface()


def solved(text):
    """The calls that a question needs and what they come to, worked out with Python's own eval."""
    store, rest = text.removesuffix("?").split(":")
    target, expression = rest.split("=")
    names = re.findall("[a-d]", expression)
    values = {name: TASK.value_of(int(store), name) for name in names}
    return [f'get("{name}")' for name in names], target, eval(expression, {}, values) % MODULUS


@dataclass(frozen=True)
class Scripted:
    """A model that says what it is told to, by conversation."""

    says: dict
    capabilities = Capabilities()
    tokenizer = None

    def generate(self, prompts, *, seed, interface):
        self.says.setdefault("batches", []).append(len(prompts))
        return [
            replace(self.says[p.conversation], prompt_id=p.id, prompt=p.text, history=p.history)
            for p in prompts
        ]


def knows(items):
    """A model that says the worked solution of every turn."""
    return Scripted({one.question.conversation: one for one in solutions(items)})


@pytest.mark.parametrize("claim", claims.CLAIMS, ids=title)
def test_the_contract_of_a_task(claim):
    claim(TASK)


def test_questions_agree_with_an_independent_solver():
    for item in ITEMS:
        gets, target, result = solved(item.prompt.text)
        *first, last = item.solution.split("\n")
        assert [line.removeprefix(" # ") for line in first] == gets
        assert last.endswith(f' # put("{target}",{result})')
        for step in last.split(" # ")[0].split(";"):
            assert eval(step.split("=")[0]) % MODULUS == int(step.split("=")[1])
        assert len(item.turns) == len(gets) + 1
    assert {len(item.turns) for item in ITEMS} == {1, 2, 3}


def filled(text, store, names):
    """What is left of a question once these names have values."""
    for name in names:
        text = text.replace(name, str(TASK.value_of(store, name)))
    return text.split(":")[-1]


def test_each_turn_shows_what_is_left_with_what_the_one_before_asked_for():
    for item in ITEMS:
        store = int(item.prompt.text.split(":")[0])
        for before, turn in zip(item.turns, item.turns[1:], strict=False):
            name = re.search('get."(.)"', before.solution)[1]
            assert turn.prompt.text == filled(before.prompt.text, store, [name])
            spoken = [(one.role, one.content) for one in turn.prompt.history[-2:]]
            assert spoken == [("user", before.prompt.text), ("assistant", before.solution)]
            assert turn.prompt.id == f"{item.prompt.id}/{len(turn.prompt.history) // 2 + 1}"


TURN = next(item for item in ITEMS if len(item.turns) == 3)
GETS, TARGET, RESULT = solved(TURN.prompt.text)
NAMES = re.findall('"(.)"', "".join(GETS))
A, B = (f" # {get}" for get in GETS)
PUT = f' # put("{TARGET}",{RESULT})'
ELSEWHERE = f' # put("{TARGET}",{(RESULT + 1) % MODULUS})'
SPOKEN = [
    (f"{A}\n{B}\n{PUT}", "right"),
    (f"{B}\n{A}\n{PUT}", "right"),
    (f"{A}\n # get('a'); get('b'); get('c'); get('d')\n{PUT}", "wrong"),  # more than needed
    (f"{A}\n{B}\n{ELSEWHERE}", "wrong"),
    (f"{A}\n{B}", "wrong"),
    (PUT, "wrong"),  # a guess: what it puts is right, but it never looked
    (f"{A}\n{B}\n{PUT};{ELSEWHERE.removeprefix(' # ')}", "wrong"),  # the store ends otherwise
    (f'{A}\n{B}\n # put("{TARGET}","{RESULT}")', "wrong"),
    (f"{A}\n{B}\nput it", "unparsed"),
    (f"{A}\n\n{B}\n{PUT}", "unparsed"),
    ("", "unparsed"),
]


@pytest.mark.parametrize(("text", "outcome"), SPOKEN)
def test_right_is_what_makes_the_calls_that_were_needed(text, outcome):
    assert TASK.grade(text, TURN.reference) == outcome
    assert TASK.grade(text, TURN.reference, finished=False) is Outcome.UNPARSED


@pytest.mark.parametrize(
    ("text", "finished", "shown"),
    [
        (f" # {GETS[0]}", True, NAMES[:1]),
        (f" # {GETS[1]}; {GETS[0]}", True, NAMES),
        (' # get("a"); get("b"); get("c"); get("d")', True, NAMES),
        (f" # {GETS[0]}", False, None),
        (PUT, True, None),
        (f'# get("a"); {PUT.removeprefix(" # ")}', True, None),
        (' # get("q")', True, None),
        (' # get("")', True, None),
        (' # get("ab")', True, None),
        (' # get(["a"])', True, None),
        (" # get(1)", True, None),
        (" # get(a)", True, None),
        (' # get(name="a")', True, None),
        (' # look("a")', True, None),
        ("get", True, None),
        ("", True, None),
    ],
)
def test_a_store_answers_what_is_asked_of_it(text, finished, shown):
    reply = TASK.reply(TURN.prompt, Completion.to(TURN.prompt, text, finished=finished))
    store = int(TURN.prompt.text.split(":")[0])
    assert (reply and reply.text) == (shown and filled(TURN.prompt.text, store, shown))


def test_a_loop_asks_every_turn_of_those_that_are_open_together():
    model = knows(ITEMS)
    prompts = [item.prompt for item in ITEMS]
    episodes = play(TASK, model, prompts, seed=0, interface=WHOLE)
    lengths = [len(item.turns) for item in ITEMS]
    assert list(map(len, episodes)) == lengths
    assert model.says["batches"] == [sum(n > turn for n in lengths) for turn in range(3)]
    assert all(
        TASK.grade(joined(one).text, item.reference) == "right"
        for one, item in zip(episodes, ITEMS, strict=True)
    )
    sent = prompts_sent(prompts, episodes)
    assert [one.conversation for one in sent] == [
        t.prompt.conversation for i in ITEMS for t in i.turns
    ]
    assert all(map(checker(TASK, ITEMS), flat(episodes)))


def test_an_episode_ends_after_three_turns_and_where_nothing_is_called():
    item = replace(TURN)
    for text, turns in ((' # get("a")', 3), ("hm", 1)):

        class Stubborn(Scripted):
            def generate(self, prompts, *, seed, interface, text=text):
                return [Completion.to(prompt, text) for prompt in prompts]

        (episode,) = play(TASK, Stubborn({}), [item.prompt], seed=0, interface=WHOLE)
        assert len(episode) == turns
        assert not checker(TASK, [item])(episode[-1])


@pytest.mark.parametrize("short", [0, 1])
def test_a_conversation_that_the_context_cannot_hold_ends_there_cut_off(short):
    tokenizer = character_tokenizer(TASK.alphabet, has_turns=True)
    longest = len(prompt_ids(tokenizer, TURN.turns[-1].prompt))
    shape = {"hidden_size": 8, "num_layers": 1, "num_heads": 2, "max_length": longest + 10}
    network = llama(tokenizer, seed=0, **shape)
    narrow = LanguageModel(network, tokenizer, max_new_tokens=10 + short)

    class Narrow(Scripted):
        encode = staticmethod(narrow.encode)

    Narrow.tokenizer = tokenizer
    says = knows([TURN]).says
    (episode,) = play(TASK, Narrow(says), [TURN.prompt], seed=0, interface=WHOLE)
    assert [turn.finished for turn in episode] == ([True, False] if short else [True] * 3)
    assert TASK.grade(joined(episode).text, TURN.reference) == ("wrong" if short else "right")


def test_a_defence_acts_on_every_turn():
    class Loud(Scripted):
        def generate(self, prompts, *, seed, interface):
            return [
                replace(one, text=f"!{one.text}")
                for one in super().generate(
                    [
                        replace(
                            p,
                            history=tuple(
                                replace(m, content=m.content.lstrip("!")) for m in p.history
                            ),
                        )
                        for p in prompts
                    ],
                    seed=seed,
                    interface=interface,
                )
            ]

    model = Loud(knows([TURN]).says)
    (episode,) = play(TASK, model, [TURN.prompt], seed=0, interface=WHOLE)
    assert len(episode) == 3 and all(turn.text.startswith("!") for turn in episode)


def test_joined_measures_are_means_over_tokens():
    first = Completion("q", "q", "a\nb", (1, 2, 3), passes=1.0, l1=0.5)
    second = Completion("q/2", "r", "c", (4,), passes=2.0, l1=0.0, finished=False)
    whole = joined([first, second])
    assert (whole.prompt_id, whole.text, whole.token_ids) == ("q", "a b\nc", (1, 2, 3, 4))
    assert whole.passes == pytest.approx((4 * 1 + 1 * 2) / 5) and whole.l1 == pytest.approx(0.4)
    assert not whole.finished and joined([first]) is first


def test_public_items_have_answers_alone_in_every_turn():
    for item in TASK.public(20, 0):
        assert item.solution == transcript([turn.solution for turn in item.turns])
        assert all(re.fullmatch(r' # (get|put)\("\w"(,\d)?\)', t.solution) for t in item.turns)
        assert TASK.grade(item.solution, item.reference) == "right"


def test_an_embedded_model_reads_a_conversation_a_turn_a_line():
    tokenizer = character_tokenizer(TASK.alphabet, has_turns=True)
    last = TURN.turns[-1].prompt
    lines = [one.content for one in last.history] + [last.text]
    assert prompt_text(tokenizer, last) == "".join(f"{line}\n" for line in lines)
    assert prompt_text(tokenizer, Prompt("q", "a=1?")) == "a=1?\n"
    assert character_tokenizer("ab").chat_template is None
