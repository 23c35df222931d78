"""On-policy distillation: the teacher's rows for the student's own tokens, what is asked, and what
is learned.
"""

from dataclasses import dataclass, replace

import numpy as np
import pytest
import torch
from pydantic import ValidationError

from distill.attackers import AttackerResources, logprob_kd, on_policy
from distill.completions import Completion, Interface, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.specs import TrainingConfig

TOKENIZER = character_tokenizer("0123456789+= #")
RECIPE = TrainingConfig(max_length=32, steps=12, batch_size=4)
PROMPTS = [Prompt(f"{a}{b}", f"{a}+{b}=") for a in range(3) for b in range(2)]


def model(seed, **options):
    network = llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=32, seed=seed)
    return LanguageModel(network, TOKENIZER, max_new_tokens=8, **options)


TEACHER = model(7, temperature=1.0)
SAID = TEACHER.generate(PROMPTS, seed=0, interface=Interface("top_k", 5))


@dataclass
class Noted:
    """A teacher that remembers what it was asked."""

    requests: list
    releases: bool = True

    def generate(self, prompts, *, seed, interface):
        self.requests.append((list(prompts), interface))
        answers = TEACHER.generate(prompts, seed=seed, interface=interface)
        return answers if self.releases else [replace(one, logprobs=None) for one in answers]


def flat(network):
    return torch.cat([p.detach().flatten() for p in network.parameters()])


def trained(teacher, **settings):
    attacker = on_policy.Attacker(on_policy.Settings(**{"k": 5} | settings))
    return attacker.train(
        SAID, model(0), RECIPE, seed=0, resources=AttackerResources(teacher=teacher)
    )


def test_the_rows_are_the_teachers_own_for_the_students_tokens():
    texts = [("1 # 1", True), ("", True), ("2+", False)]
    answers = [
        Completion(
            p.id, p.text, text, tuple(TOKENIZER(text, add_special_tokens=False).input_ids), finished
        )
        for p in PROMPTS[:2]
        for text, finished in texts
    ]
    scored = on_policy.score_completions(AttackerResources(teacher=TEACHER), answers, 4, seed=5)
    assert [one.token_ids for one in scored] == [one.token_ids for one in answers]
    for answer in scored:
        assert len(answer.logprobs.ids_TK) == len(answer.token_ids) + answer.finished
        ids = TOKENIZER(answer.prompt, add_special_tokens=False).input_ids + list(answer.token_ids)
        with torch.no_grad():
            all_TV = (
                TEACHER.network(input_ids=torch.tensor([ids])).logits[0].double().log_softmax(-1)
            )
        start = len(ids) - len(answer.token_ids) - 1
        rows_TV, ids_TK = (
            all_TV[start : start + len(answer.logprobs.ids_TK)],
            torch.tensor(answer.logprobs.ids_TK).long(),
        )
        np.testing.assert_allclose(answer.logprobs.values_TK, rows_TV.topk(4).values, atol=1e-4)
        np.testing.assert_allclose(answer.logprobs.values_TK, rows_TV.gather(-1, ids_TK), atol=1e-4)


def test_every_phase_scores_one_answer_to_every_question_and_counts_it():
    teacher = Noted([])
    done = trained(teacher, phases=3)
    assert done.asked == 3 * len(PROMPTS) and len(teacher.requests) == 3
    for prompts, interface in teacher.requests:
        assert [one.id for one in prompts] == [
            one.id for one in PROMPTS
        ] and interface == Interface("top_k", 5)
    assert len({tuple(one.begin for one in prompts) for prompts, _ in teacher.requests}) == 3
    assert len(done.losses) == 4  # the sold answers, then three phases of two steps


def test_a_student_that_did_not_change_says_something_else_in_the_next_phase():
    teacher, slow = Noted([]), RECIPE.model_copy(update={"learning_rate": 1e-12})
    attacker = on_policy.Attacker(on_policy.Settings(phases=2, k=5))
    attacker.train(SAID, model(0), slow, seed=0, resources=AttackerResources(teacher=teacher))
    first, second = ([one.begin for one in prompts] for prompts, _ in teacher.requests)
    assert first != second


def test_an_answer_that_the_teacher_spells_otherwise_is_left_out():
    answers = [Completion("a", "1+1=", "12", (5, 99)), Completion("b", "1+1=", "1", (4,))]
    answers[1] = replace(
        answers[1], token_ids=tuple(TOKENIZER("1", add_special_tokens=False).input_ids)
    )
    assert [
        one.prompt_id
        for one in on_policy.score_completions(
            AttackerResources(teacher=TEACHER), answers, 4, seed=0
        )
    ] == ["b"]


def test_what_is_not_scored_teaches_nothing():
    done = trained(
        Noted([], releases=False), phases=2, divergence="reverse"
    )  # sold answers: forward all the same
    plain = logprob_kd.Attacker(logprob_kd.Settings())
    half = RECIPE.model_copy(update={"steps": 6})
    assert torch.equal(flat(done.network), flat(plain.train(SAID, model(0), half, seed=0).network))
    assert done.asked == 2 * len(PROMPTS)


def test_the_divergence_is_that_of_the_students_own_answers():
    weights = [
        flat(trained(TEACHER, phases=1, divergence=kind).network)
        for kind in ("forward", "reverse", "jsd")
    ]
    assert not torch.equal(weights[0], weights[1]) and not torch.equal(weights[1], weights[2])
    settings = on_policy.Settings(divergence="jsd", beta=1.0, k=5, phases=1)
    done = on_policy.Attacker(settings).train(
        SAID, model(0), RECIPE, seed=0, resources=AttackerResources(teacher=TEACHER)
    )
    assert torch.equal(flat(done.network), weights[1])  # jsd at beta 1 is reverse KL
    with pytest.raises(ValidationError):
        on_policy.Settings(divergence="sideways")


def test_a_question_that_was_sold_twice_is_answered_once():
    twice = [*SAID, replace(SAID[0], prompt_id="00~1")]
    done = on_policy.Attacker(on_policy.Settings(phases=1, k=5)).train(
        twice, model(0), RECIPE, seed=0, resources=AttackerResources(teacher=TEACHER)
    )
    assert done.asked == len(PROMPTS)
