"""Learning from released distributions: what is drawn from them, which settings there are, and that
each one learns.
"""

import numpy as np
import pytest
import torch
from pydantic import ValidationError
from scipy import stats

from distill import losses
from distill.attackers.logprob_kd import Attacker, Settings, example, sample_rows
from distill.completions import Completion, Interface, Logprobs, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.objectives import cross_entropy, released_logprobs, score_answers
from distill.specs import TrainingConfig
from distill.trainer import train

TOKENIZER = character_tokenizer("0123456789+=# ")
RECIPE = TrainingConfig(max_length=24, steps=40, batch_size=8)
ROW = Logprobs(
    np.array([[4, 2, -1]], np.int32), np.array([[np.log(0.5), np.log(0.25), -np.inf]], np.float32)
)


def network(seed=0):
    return llama(TOKENIZER, hidden_size=16, num_layers=1, num_heads=2, max_length=24, seed=seed)


def sold(k=4, full=False):
    teacher = LanguageModel(network(7), TOKENIZER, temperature=1.0, max_new_tokens=8)
    interface = Interface("full") if full else Interface("top_k", k)
    return teacher.generate(
        [Prompt(str(i), f"{i}+{i}=") for i in range(12)], seed=0, interface=interface
    )


def learnt(answers, seed=0, **settings):
    attacker = Attacker(Settings(**settings))
    return attacker.train(answers, LanguageModel(network(), TOKENIZER), RECIPE, seed=seed)


def weights(trained):
    return torch.cat([p.detach().flatten() for p in trained.network.parameters()])


def test_draws_are_shares_of_the_row_and_its_bucket():
    drawn = sample_rows(ROW, 4, np.random.default_rng(0))
    assert drawn.ids_TK is ROW.ids_TK and drawn.values_TK[0, 2] == -np.inf
    shares = np.append(np.exp(drawn.values_TK[0]), np.exp(drawn.tail_T[0]))
    assert shares.sum() == pytest.approx(1) and (shares * 4 == (shares * 4).round()).all()


@pytest.mark.parametrize(
    ("tail", "masses"),
    [
        (None, [1 / 2, 1 / 4, 1 / 4]),
        (3 / 4, [1 / 3, 1 / 6, 1 / 2]),
    ],  # 1/2, 1/4 and a known 3/4 make 3/2
)
def test_draws_have_the_probabilities_of_the_row(tail, masses):
    log_tail = None if tail is None else np.log(np.array([tail], np.float32))
    drawn = sample_rows(
        Logprobs(ROW.ids_TK, ROW.values_TK, log_tail), 10**5, np.random.default_rng(1)
    )
    counts = (np.exp([*drawn.values_TK[0, :2], drawn.tail_T[0]]) * 10**5).round()
    assert stats.chisquare(counts, 10**5 * np.array(masses)).pvalue > 1e-3


def test_the_gradient_of_draws_is_unbiased():
    # one draw has three outcomes: their gradients, weighted with their probabilities, are the row's
    # own gradient
    torch.manual_seed(0)
    start = torch.randn(1, 6)

    def gradient(logprobs):
        logits = start.clone().requires_grad_()
        ids, values = torch.from_numpy(logprobs.ids_TK).long(), torch.from_numpy(logprobs.values_TK)
        tail = None if logprobs.tail_T is None else torch.from_numpy(logprobs.tail_T)
        losses.released_divergence("forward", "tail", logits, ids, values, tail).backward()
        return logits.grad

    outcomes = {}
    for seed in range(40):
        drawn = sample_rows(ROW, 1, np.random.default_rng(seed))
        outcomes[int(np.argmax([*drawn.values_TK[0], drawn.tail_T[0]]))] = gradient(drawn)
    assert {*outcomes} == {0, 1, 3}
    mean = 0.5 * outcomes[0] + 0.25 * outcomes[1] + 0.25 * outcomes[3]
    assert torch.allclose(mean, gradient(ROW), atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0])
def test_the_default_is_what_it_was_to_the_bit(weight):
    def before(network, rows, pad, device):
        seen = score_answers(network, rows, pad, device)
        loss = weight * cross_entropy(seen.logits_NV, seen.targets_N) if weight else 0.0
        if weight < 1:
            loss = loss + (1 - weight) * losses.forward_kl_tail(
                seen.logits_NV, *released_logprobs(rows, device)
            )
        return loss

    examples = [example(one, TOKENIZER) for one in sold()]
    then = train(network(), examples, RECIPE, seed=0, pad=TOKENIZER.pad_token_id, loss=before)
    assert torch.equal(weights(learnt(sold(), ce_weight=weight)), weights(then))


@pytest.mark.parametrize(
    "settings",
    [
        *(
            {"divergence": kind}
            for kind in ("forward", "reverse", "jsd", "skew", "skew_reverse", "tvd")
        ),
        *({"semantics": one} for one in ("renorm_teacher", "conditional", "truncated")),
        {"semantics": "sampled", "draws": 8},
    ],
)
def test_each_one_learns(settings):
    result = learnt(sold(), **settings)
    assert (
        np.isfinite(result.losses).all()
        and result.losses[-1] < result.losses[0]
        and not result.diverged
    )


def test_settings_reach_the_loss():
    ways = [
        {},
        {"divergence": "jsd", "beta": 0.2},
        {"divergence": "jsd", "beta": 0.8},
        {"divergence": "skew"},
        {"divergence": "skew", "skew": 0.5},
        {"semantics": "conditional"},
        {"semantics": "sampled", "draws": 2},
        {"semantics": "sampled", "draws": 3},
    ]
    ends = [weights(learnt(sold(), **way)) for way in ways]
    assert all(not torch.equal(a, b) for i, a in enumerate(ends) for b in ends[:i])


def test_draws_are_a_function_of_the_seed_and_the_answer():
    attacker, answer = Attacker(Settings(semantics="sampled")), sold()[0]
    first, again, other = (
        attacker._example(answer, TOKENIZER, seed).logprobs.values_TK for seed in (0, 0, 1)
    )
    assert (first == again).all() and (first != other).any()


def test_with_everything_released_the_semantics_are_one():
    answers = sold(full=True)
    ends = [
        weights(learnt(answers, semantics=one, released="full"))
        for one in ("tail", "conditional", "truncated")
    ]
    assert all(torch.allclose(ends[0], end, atol=1e-3) for end in ends)
    assert (
        Attacker(Settings(released="full")).needs_interface == "full"
        and Attacker(Settings()).needs_interface == "top_k"
    )


@pytest.mark.parametrize(
    ("settings", "why"),
    [
        ({"divergence": "reverse", "semantics": "conditional"}, "needs semantics tail"),
        ({"divergence": "jsd", "beta": 1.0, "semantics": "renorm_teacher"}, "needs semantics tail"),
        ({"divergence": "tvd", "semantics": "truncated"}, "for forward alone"),
        ({"divergence": "skew", "semantics": "sampled"}, "unbiased for forward alone"),
        ({"skew": 0.0}, "greater than 0"),
    ],
)
def test_what_makes_no_sense_is_refused(settings, why):
    with pytest.raises(ValidationError, match=why):
        Settings(**settings)


def test_answers_without_logprobs_are_refused():
    with pytest.raises(ValueError, match="has no logprobs"):
        learnt([Completion("a", "1+1=", "2")])
