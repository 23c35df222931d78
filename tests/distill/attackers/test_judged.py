"""Judge stealing: what a score is, by hand; what is sent and counted; and what a student learns
from a scripted judge, a trained teacher and one that draws its scores.
"""

import math
import re
from dataclasses import dataclass, field, replace
from itertools import count

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from distill.attackers import AttackerResources, judged, sft
from distill.attackers.follow import sample_completions
from distill.completions import BadInput, Completion, Interface, Logprobs, Message, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import EditedModel, LanguageModel
from distill.rendering import text_ids
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = TrainingConfig(max_length=32, steps=80, batch_size=8, learning_rate=5e-3)
RIGHT = [Completion(f"{a}{b}", f"{a}+{b}=", str(a + b)) for a in range(2) for b in range(3)]
SHORT = RECIPE.model_copy(update={"steps": 16})
SOLD = RIGHT + [replace(one, prompt_id=f"{one.prompt_id}~1", text="9") for one in RIGHT]
LEARNING = {"first": 0.5, "rounds": 4, "samples": 8, "rate": 0.3}
FILLED = re.compile(r"Question:\n(.*)\n\nAnswer:\n(.*)\n\nRubric: ", re.DOTALL)


def model(seed=0):
    network = llama(TOKENIZER, hidden_size=32, num_layers=1, num_heads=2, max_length=32, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=4)


def is_right(question, answer):
    return answer == str(sum(map(int, question.rstrip("=").split("+"))))


@dataclass
class Scripted:
    """A judge that answers in words: `reply(question, answer)`. It remembers what it was sent."""

    reply: object
    prompts: list = field(default_factory=list)
    interfaces: set = field(default_factory=set)

    def generate(self, prompts, *, seed, interface):
        self.prompts += prompts
        self.interfaces.add(interface)
        pairs = [FILLED.search(prompt.text).groups() for prompt in prompts]
        return [
            Completion.to(prompt, self.reply(*pair))
            for prompt, pair in zip(prompts, pairs, strict=True)
        ]


def fair(question, answer):
    return f"Score: {10 * is_right(question, answer)}"


def trained(teacher, seed=0, recipe=SHORT, **settings):
    changed = {"by": "instruction", **LEARNING} | settings
    return judged.Attacker(judged.Settings(**changed)).train(
        SOLD,
        model(seed),
        recipe,
        seed=seed,
        resources=AttackerResources(teacher=teacher, tokenizer=TOKENIZER),
    )


def plain(steps, seed=0):
    recipe = RECIPE.model_copy(update={"steps": steps})
    return sft.Attacker(sft.Settings()).train(SOLD, model(seed), recipe, seed=seed)


def share_right(done, seed):
    """Of answers that the student samples."""
    student = replace(model(), network=done.network)
    drawn = sample_completions(student, RIGHT, 40, 1.0, seed)
    return np.mean([is_right(one.prompt, one.text) for one in drawn])


def weights(done):
    return torch.cat([p.detach().flatten() for p in done.network.parameters()])


# What a score is


@pytest.mark.parametrize(
    ("reply", "score"),
    [
        ("Score: 7", 7.0),
        ("score:10", 10.0),
        ("**Score: 8.5**", 8.5),
        ("**Score:** 8", 8.0),
        ("__Score: 8/10__.", 8.0),
        ("The carry is right.\nScore: 3/10.\n", 3.0),
        ("I'd say the score is 4", 4.0),
        ("SCORE = 0", 0.0),
        (" 6 \n", 6.0),
        ("9/10", 9.0),
        ("A score of 10 is for the best.\nScore: 2", 2.0),
        ("Score: 2\nScore: 2.0", 2.0),
        ("Score: 2\nScore: 3", None),
        ("Score: 11", None),
        ("Score: 99", None),
        ("Score: 100", None),
        ("Score: -1", None),
        ("-1", None),
        ("Score: 7/5", None),
        ("Score: 70%", None),
        ("Score: 3-4", None),
        ("Score: N", None),
        ("Score: \u0663", None),  # a digit, in Arabic
        ("Underscore: 4", None),
        ("The answer is 7", None),
        ("7 of 10", None),
        ("7 8", None),
        ("1e1", None),
        ("nan", None),
        ("", None),
    ],
)
def test_a_score_is_read_strictly(reply, score):
    assert judged.read_score(reply) == score


@given(st.text("score:0123456789./*- \n", max_size=40))
def test_no_reply_is_scored_beyond_the_scale(reply):
    for text in (reply, f"Score: {reply}"):
        score = judged.read_score(text)
        assert score is None or 0 <= score <= judged.HIGHEST


ROWS = Logprobs(
    np.array([[4, 7], [7, -1], [5, 4]], np.int32),
    np.log(np.array([[0.5, 0.2], [0.9, 1e-30], [0.6, 0.4]])).astype(np.float32),
)


@pytest.mark.parametrize(
    ("ids", "values"),
    [
        ([4], [0.5]),
        ([4, 7], [0.5, 0.9]),
        ([7, 7, 4], [0.2, 0.9, 0.4]),
        ([6], [0.2]),  # the least that is named, which is less than all that is left out
        ([4, 6], [0.5, 0.1]),  # all that is left out, less than the least that is named
        ([4, 7, 9], [0.5, 0.9, 1e-6]),  # nothing is left out
    ],
)
def test_the_mean_logprob_by_hand(ids, values):
    assert judged.mean_logprob(ROWS, ids) == pytest.approx(np.log(values).mean(), abs=1e-4)


def test_what_is_left_out_is_taken_from_where_it_is_stated():
    stated = replace(ROWS, tail_T=np.log([0.01, 0.1, 0.1]))
    assert judged.mean_logprob(stated, [6]) == pytest.approx(math.log(0.01))
    assert judged.mean_logprob(stated, [4]) == pytest.approx(math.log(0.5))


def test_a_token_that_is_never_drawn_is_no_infinity():
    never = Logprobs(np.array([[4, 7]], np.int32), np.array([[0.0, -np.inf]], np.float32))
    assert judged.mean_logprob(never, [7]) == pytest.approx(math.log(1e-6))
    assert judged.mean_logprob(never, [5]) == pytest.approx(math.log(1e-6))


def test_what_was_not_released_has_no_mean():
    withheld = Logprobs(np.array([[-1, -1]], np.int32), np.full((1, 2), -np.inf, np.float32))
    assert judged.mean_logprob(withheld, [4]) is None
    assert judged.mean_logprob(ROWS, [4, 7, 4, 4]) is None
    assert judged.mean_logprob(ROWS, []) is None and judged.mean_logprob(None, [4]) is None


def test_the_likelihood_is_that_of_the_text_and_its_end():
    """Against the sum that the network itself gives, of which the attacker sees nothing."""
    teacher = model(7)
    answers = [replace(one, text=text) for one in RIGHT[:2] for text in ("", "3", "1 #")]
    judge = judged.Judge(
        judged.Settings(), AttackerResources(teacher=teacher, tokenizer=TOKENIZER), 0
    )
    nats = teacher.surprisal([one.question for one in answers], [one.text for one in answers])
    sizes = [len(one.text) + 1 for one in answers]
    assert judge.score(answers) == pytest.approx(-np.divide(nats, sizes), abs=1e-4)
    cut = replace(answers[2], finished=False)
    (score,) = judge.score([cut])
    whole = teacher.generate(
        [replace(cut.question, begin=cut.text)], seed=0, interface=Interface("full")
    )[0].logprobs
    first = [whole.values_TK[t][whole.ids_TK[t] == token] for t, token in enumerate(ids(cut))]
    assert score == pytest.approx(np.mean(first), abs=1e-5)


def ids(answer):
    return text_ids(TOKENIZER, answer.text)


def test_gains_by_hand():
    nan = math.nan
    gains = judged.gains(np.array([[10.0, 0, 0, 0], [9, nan, 3, nan], [nan, nan, nan, 5]]))
    assert gains[0] == pytest.approx([3**0.5, *[-(3**-0.5)] * 3])
    assert gains[1] == pytest.approx([2**0.5, 0, -(2**0.5), 0])  # spread of 9, 6, 3, 6
    assert gains[1][1] == gains[1][3] == 0 and (gains[2] == 0).all()
    assert (judged.gains(np.full((2, 3), nan)) == 0).all()


@given(st.floats(-20, 10), st.integers(2, 9), st.integers(0, 2))
def test_equal_scores_are_no_gain_whatever_they_round_to(score, size, unread):
    group = np.array([[score] * size + [math.nan] * unread])
    assert (judged.gains(group) == 0).all()


@given(st.lists(st.integers(0, 10), min_size=2, max_size=7))
def test_an_answer_without_a_score_gains_nothing_at_all(scores):
    """Not even what a mean is off by rounding."""
    gains = judged.gains(np.array([[*scores, math.nan]]))[0]
    assert gains[-1] == 0 and (gains[:-1] != 0).any() == (len({*scores}) > 1)


def test_a_judge_reads_all_that_was_asked():
    assert judged.question_text(RIGHT[0].question) == "0+0="
    more = Prompt("q", "And 2?", system="Add.", history=(Message("user", "1?"),))
    assert judged.question_text(more) == "system: Add.\nuser: 1?\nuser: And 2?"


@pytest.mark.parametrize(
    "template",
    ["", "{question}", "{question} {answer} {more}", "{question!r} {answer}", "{question", "{} {}"],
)
def test_a_template_holds_question_and_answer(template):
    with pytest.raises(ValueError, match="template"):
        judged.Settings(template=template)


def test_braces_of_an_answer_are_mere_text():
    judge = Scripted(lambda question, answer: f"Score: {len(answer)}")
    odd = replace(RIGHT[0], text="{question}")
    (score,) = judged.Judge(
        judged.Settings(by="instruction"), AttackerResources(teacher=judge), 0
    ).score([odd])
    assert score == len("{question}") and "Question:\n0+0=\n" in judge.prompts[0].text


# What a student learns


@pytest.fixture(scope="module")
def sold_alone():
    return [plain(RECIPE.steps, seed) for seed in range(2)]


def test_a_student_gets_better_at_what_the_judge_rewards_than_by_the_sold_answers(sold_alone):
    for seed, passive in enumerate(sold_alone):
        done = trained(Scripted(fair), seed, RECIPE)
        assert RECIPE.steps / 2 < done.steps <= RECIPE.steps == passive.steps
        assert share_right(done, 77) > share_right(passive, 77) + 0.15


def test_scores_at_random_teach_nothing(sold_alone):
    for seed, passive in enumerate(sold_alone):
        rng = np.random.default_rng(seed)
        done = trained(Scripted(lambda *pair, r=rng: f"Score: {r.integers(11)}"), seed, RECIPE)
        assert done.steps > RECIPE.steps / 2
        assert share_right(done, 77) < share_right(passive, 77) + 0.05


def test_a_teacher_that_follows_no_instruction_judges_by_its_logprobs(sold_alone):
    recipe = RECIPE.model_copy(update={"steps": 120})
    able = sft.Attacker(sft.Settings()).train(RIGHT, model(5), recipe, seed=1).network.eval()
    done = trained(replace(model(), network=able), recipe=RECIPE, by="likelihood")
    assert share_right(done, 77) > share_right(sold_alone[0], 77) + 0.1
    assert done.asked > 0 == done.unscored


def test_scores_that_are_alike_teach_nothing():
    done = trained(Scripted(lambda *pair: "Score: 7"), rounds=1)
    assert torch.equal(weights(done), weights(plain(10))) and done.steps == 10  # a round of 6
    assert done.asked > 0  # it does not know before


def test_the_same_seed_gives_the_same_student():
    first, again, other = (trained(Scripted(fair), seed, rounds=2) for seed in (0, 0, 1))
    assert torch.equal(weights(first), weights(again)) and first.asked == again.asked
    assert not torch.equal(weights(first), weights(other))


# What is sent


def test_every_answer_that_is_sent_is_counted_once_and_none_twice():
    judge = Scripted(fair)
    done = trained(judge)
    assert done.asked == len(judge.prompts) > 0 == done.unscored
    assert len({prompt.text for prompt in judge.prompts}) == len(judge.prompts)
    assert judge.interfaces == {Interface()}
    assert {FILLED.search(prompt.text)[1] for prompt in judge.prompts} <= {
        one.prompt for one in RIGHT
    }


def test_answers_that_are_all_alike_are_not_sent(monkeypatch):
    alike = [one for one in RIGHT for _ in range(8)]
    monkeypatch.setattr(judged, "sample_completions", lambda *args: alike)
    judge = Scripted(fair)
    assert trained(judge).asked == len(judge.prompts) == 0
    mixed = [replace(one, text="5") if place == 9 else one for place, one in enumerate(alike)]
    monkeypatch.setattr(judged, "sample_completions", lambda *args: mixed)
    assert trained(judge).asked == len(judge.prompts) == 2  # in four rounds


def test_no_more_groups_are_sent_than_the_steps_have_use_for():
    judge, few = Scripted(fair), RECIPE.model_copy(update={"steps": 2})
    done = trained(judge, recipe=few)  # one step of eight answers: a group
    assert len({FILLED.search(prompt.text)[1] for prompt in judge.prompts}) == 1
    assert done.asked == 8 and done.steps <= 2


@pytest.mark.parametrize(
    ("steps", "sold"),
    [
        (80, 40),  # 4 rounds of 10 steps at most, of 48 answers: 6 would be a pass
        (8, 4),
        (1, 1),
        (0, 0),
    ],
)
def test_steps_for_which_rounds_have_no_use_are_spent_on_sold_answers(steps, sold, monkeypatch):
    begun = []
    learn = sft.Attacker.train
    monkeypatch.setattr(
        sft.Attacker,
        "train",
        lambda self, answers, model, recipe, **more: (
            begun.append(recipe.steps) or learn(self, answers, model, recipe, **more)
        ),
    )
    recipe = RECIPE.model_copy(update={"steps": steps})
    done = trained(Scripted(fair), recipe=recipe, rounds=4)
    rounds = 4 * 6 if steps == 80 else steps - sold
    assert begun == [steps - rounds] and begun[0] >= sold and done.steps <= steps


def test_a_defence_sees_and_edits_what_the_judge_says():
    seen = []

    def edit(reply):
        seen.append(reply.text)
        return replace(reply, text="Score: 7")

    done = trained(EditedModel(Scripted(fair), edit), rounds=1)
    assert len(seen) == done.asked and {*seen} == {"Score: 0", "Score: 10"}
    assert torch.equal(weights(done), weights(plain(10)))


# Replies without a score


def test_replies_that_cannot_be_read_are_counted_and_gain_nothing(monkeypatch):
    gained = []
    monkeypatch.setattr(
        judged,
        "policy_pass",
        lambda student, start, answers, gains, *args, **more: (
            gained.append((answers, gains)) or judged.Trained(student.network)
        ),
    )
    turns = count()
    judge = Scripted(lambda *pair: "Hm." if next(turns) % 3 == 0 else fair(*pair))
    done = trained(judge)
    replies = {
        prompt.text: place % 3 == 0 for place, prompt in enumerate(judge.prompts)
    }  # as they were sent
    unread = {FILLED.search(text).groups() for text, bad in replies.items() if bad}
    assert done.unscored == len(unread) > 0 and done.asked == len(judge.prompts)
    pairs = [
        (answer, gain)
        for answers, gains in gained
        for answer, gain in zip(answers, gains, strict=True)
    ]
    assert all(gain == 0 for answer, gain in pairs if (answer.prompt, answer.text) in unread)
    assert any(gain for _, gain in pairs)


@pytest.mark.parametrize(
    ("teacher", "by", "line"),
    [
        (
            Scripted(lambda *pair: "I cannot\ngrade that. " * 20),
            "instruction",
            r"replies of the teacher hold no score from 0 to 10, as 'I cannot\\ngrade.*\.\.\.'; a "
            "teacher that follows no instruction takes by=likelihood",
        ),
        (
            EditedModel(model(7), lambda one: replace(one, logprobs=None, token_ids=())),
            "likelihood",
            "answers are begun otherwise by the teacher than they were dictated, or nothing is "
            "released for them, as for '",
        ),
        (
            EditedModel(model(7), lambda one: replace(one, token_ids=(5, *one.token_ids))),
            "likelihood",
            "answers are begun otherwise",
        ),
    ],
)
def test_most_replies_without_a_score_are_one_line(teacher, by, line):
    with pytest.raises(BadInput, match=f"^attacker judged: [0-9]+ of [0-9]+ {line}") as error:
        trained(teacher, by=by)
    assert "\n" not in str(error.value) and len(str(error.value)) < 300


def test_half_without_a_score_is_not_most():
    answers = [replace(RIGHT[0], text=text) for text in "0123"]
    wanted = {"0": "Hm.", "1": "Hm.", "2": "Score: 2", "3": "Score: 9"}
    judge = judged.Judge(
        judged.Settings(by="instruction"),
        AttackerResources(teacher=Scripted(lambda _, answer: wanted[answer])),
        0,
    )
    assert np.array_equal(judge.score(answers), [math.nan, math.nan, 2, 9], equal_nan=True)
    wanted["5"] = "Hm."
    with pytest.raises(BadInput, match="3 of 5 replies"):
        judge.score([replace(RIGHT[0], text="5")])


def test_what_it_needs_is_by_how_it_asks():
    in_words = judged.Attacker(judged.Settings(by="instruction"))
    by_logprobs = judged.Attacker(judged.Settings())
    assert in_words.needs == ("teacher",) and in_words.needs_interface == "text"
    assert in_words.instruction == judged.TEMPLATE and not by_logprobs.instruction
    assert {*by_logprobs.needs} == {"teacher", "prefill", "tokenizer"}
    assert by_logprobs.needs_interface == "top_k"
