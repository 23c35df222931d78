"""Image regression on rows of a trained model: what it undoes, what it thins out, what it leaves,
what it refuses.
"""

from __future__ import annotations

import random

import numpy as np
import pytest
import torch
from scipy.optimize import linprog

from defenses import ProviderResources
from defenses.decoding import gradient_redirection
from distill.attackers import NOTHING
from distill.attackers.repair import dense, image, sparse
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.embedded import byte_pair_tokenizer, llama
from distill.models import LanguageModel
from distill.objectives import Example
from distill.specs import TrainingConfig
from distill.trainer import train

D, V = 16, 300
PROFILE = Interface("full")
FORMS = ["known", "blind"]


def sentences() -> list[str]:
    """A small made-up language, in which each word has a few that may follow it."""
    rng = random.Random("sentences")
    words = [
        "".join(rng.choice(["ka", "lo", "mi", "ter", "su", "an"]) for _ in range(rng.randint(1, 3)))
        for _ in range(60)
    ]
    follows = {word: rng.sample(words, 4) for word in words}
    seen = []
    for _ in range(150):
        line = [rng.choice(words)]
        while len(line) < 8:
            line.append(rng.choice(follows[line[-1]]))
        seen.append(" ".join(line))
    return seen


LINES = sentences()


@pytest.fixture(scope="module")
def teacher() -> LanguageModel:
    tokenizer = byte_pair_tokenizer(LINES, V)
    network = llama(tokenizer, hidden_size=D, num_layers=2, num_heads=2, max_length=64, seed=0)
    recipe = TrainingConfig(max_length=64, steps=100, batch_size=16, learning_rate=1e-2)
    ids = [tokenizer(line).input_ids for line in LINES]
    learned = train(network, [Example(one[:2], one[2:40]) for one in ids], recipe, seed=0)
    assert learned.losses[-1] < learned.losses[0] - 1
    return LanguageModel(learned.network.eval(), tokenizer, temperature=1.0, max_new_tokens=16)


@pytest.fixture(scope="module")
def prompts() -> list[Prompt]:
    return [Prompt(str(i), line[:6]) for i, line in enumerate(LINES[:12])]


@pytest.fixture(scope="module")
def answers(teacher, prompts) -> list[Completion]:
    return teacher.generate(prompts, seed=0, interface=PROFILE)


@pytest.fixture(scope="module")
def clean(answers) -> np.ndarray:
    return rows(answers)


def rows(answers) -> np.ndarray:
    return np.concatenate([dense(one.logprobs, V) for one in answers])


def l1(a, b) -> np.ndarray:
    return np.abs(a - b).sum(-1)


def towards_one_token(p_NV, share, rng):
    """Interpolation with a random token."""
    out = (1 - share) * p_NV
    out[np.arange(len(out)), rng.integers(V, size=len(out))] += share
    return out


def drained(p_NV, share, rng):
    """A random token is given what random others lose, all that they have, as far as the share
    goes.
    """
    out = p_NV.copy()
    for row in out:
        first, *others = rng.permutation(V)
        left = share
        for k in others:
            taken = min(left, row[k])
            row[k], left = row[k] - taken, left - taken
            if left < 1e-12:
                break
        row[first] += share - left
    return out


def read_off(p_NV, form, d=D, most=2000):
    return image.repair(p_NV, form, d, most, np.random.default_rng(0))[0]


def test_interpolation_with_a_token_is_undone_though_every_row_has_it(clean):
    edited = towards_one_token(clean, 0.15, np.random.default_rng(1))
    assert l1(edited, clean).mean() >= 0.2
    assert l1(read_off(edited, "blind"), clean).max() <= 1e-3


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("edit", [towards_one_token, drained])
def test_edits_of_a_third_of_the_rows_are_undone(clean, form, edit):
    rng = np.random.default_rng(2)
    edited = clean.copy()
    some = rng.permutation(len(clean))[: len(clean) // 3]
    edited[some] = edit(clean[some], 0.4, rng)
    assert l1(edited, clean)[some].mean() >= 0.2
    assert l1(read_off(edited, form), clean).max() <= 1e-3


def test_known_needs_most_rows_to_be_clean(clean):
    edited = towards_one_token(clean, 0.3, np.random.default_rng(1))
    assert l1(read_off(edited, "known"), clean).mean() > 1e-2


def test_noise_of_its_own_for_each_entry_is_thinned_out_and_not_undone(clean):
    """Where every row has it `known` finds a space between them, and `blind` none that explains
    one.
    """
    edited = clean * np.exp(0.7 * np.random.default_rng(3).normal(size=clean.shape))
    edited /= edited.sum(-1, keepdims=True)
    before, after = l1(edited, clean).mean(), l1(read_off(edited, "known"), clean).mean()
    assert 0.02 < after < 0.65 * before
    np.testing.assert_allclose(read_off(edited, "blind"), edited, atol=1e-12)


def test_blind_makes_no_row_worse_where_the_same_tokens_drain_everywhere():
    """At the default floor it did, of nearly all: L1 .50 to .76 and more."""
    rng = np.random.default_rng(0)
    scores = rng.normal(size=(120, 8)) @ rng.normal(size=(8, 150))
    clean = np.exp(scores) / np.exp(scores).sum(-1, keepdims=True)
    g = torch.tensor(np.broadcast_to(rng.normal(size=150), clean.shape).copy())
    released = gradient_redirection.redirect(torch.tensor(clean).log(), g, 0.5, 0.01).exp().numpy()
    back = read_off(released, "blind", d=8)
    assert (l1(back, clean) <= l1(released, clean) + 1e-6).mean() > 0.98


def test_dense_maps_are_not_undone(clean):
    smooth = 0.8 * clean + 0.2 / V
    assert l1(read_off(smooth, "blind"), clean).mean() > 0.5 * l1(smooth, clean).mean()


@pytest.mark.parametrize("form", FORMS)
def test_what_lies_on_the_image_stays_bit_for_bit(teacher, answers, form):
    part = image.Attacker(image.Settings(form=form, hidden=D))
    for before, after in zip(answers, part.clean(answers, NOTHING, seed=0), strict=True):
        assert after.logprobs is before.logprobs and after.text == before.text


def through(teacher, prompts, **changes):
    proxy = llama(
        teacher.tokenizer, hidden_size=8, num_layers=1, num_heads=2, max_length=64, seed=9
    )
    settings = gradient_redirection.Settings(
        **{"eps": 0.5, "rho": 0.0, "where": "logprobs"} | changes
    )
    resources = ProviderResources(proxy=LanguageModel(proxy, teacher.tokenizer, temperature=1.0))
    return gradient_redirection.Defense(settings, resources)(teacher).generate(
        prompts, seed=0, interface=PROFILE
    )


def test_gradient_redirection_of_some_rows_is_undone_in_its_published_form_alone(
    teacher, prompts, answers
):
    part = image.Attacker(image.Settings(form="known", hidden=D))

    def distances(**changes):
        sold = answers[:8] + through(teacher, prompts[8:], **changes)
        changed = slice(sum(len(one.logprobs.ids_TK) for one in answers[:8]), None)
        clean = rows(answers[:8] + teacher.generate(prompts[8:], seed=0, interface=PROFILE))
        return [
            l1(rows(held), clean)[changed] for held in (sold, part.clean(sold, NOTHING, seed=0))
        ]

    before, after = distances()
    assert before.mean() >= 0.2 and after.max() <= 1e-3
    before, after = distances(form="hidden")  # it stays on the image
    assert before.mean() >= 0.2 and after == pytest.approx(before, abs=1e-2)


def test_the_fit_is_that_of_a_linear_program():
    rng = np.random.default_rng(5)
    basis, x = rng.normal(size=(12, 3)), rng.normal(size=(4, 12))
    there = np.ones((4, 12), bool)
    there[0, :3] = False
    fit = image.l1_fit(x, there, basis, rounds=200)
    for row, released, got in zip(x, there, fit, strict=True):
        b, y = basis[released], row[released]
        n = len(y)  # min sum t with -t <= b h - y <= t
        bounds = np.block([[b, -np.eye(n)], [-b, -np.eye(n)]])
        best = linprog(
            [0] * 3 + [1] * n,
            bounds,
            np.concatenate([y, -y]),
            bounds=[(None, None)] * 3 + [(0, None)] * n,
        )
        assert np.abs(got[released] - y).sum() == pytest.approx(best.fun, rel=1e-3)


class TestRefusals:
    def test_too_few_logprobs_a_row(self, answers):
        def cut(k):
            return [
                Completion(
                    "a",
                    "?",
                    "",
                    logprobs=Logprobs(one.logprobs.ids_TK[:, :k], one.logprobs.values_TK[:, :k]),
                )
                for one in answers
            ]

        for form in FORMS:
            part = image.Attacker(image.Settings(form=form, hidden=D))
            with pytest.raises(
                BadInput, match=f"fullest row has {D} logprobs; hidden={D} needs {D + 1} or more"
            ):
                part.clean(cut(D), NOTHING, seed=0)
        with pytest.raises(BadInput, match="0 different whole rows"):
            image.Attacker(image.Settings(form="known", hidden=D)).clean(cut(100), NOTHING, seed=0)
        with pytest.raises(BadInput, match="repair/image: answer 'b' has no logprobs"):
            part.clean([Completion("b", "?", "!")], NOTHING, seed=0)

    @pytest.mark.parametrize("form", FORMS)
    def test_too_few_rows_as_repeated_ones_count_once(self, clean, form):
        with pytest.raises(
            BadInput,
            match=f"{D} different .*rows; form {form} with hidden={D} needs {D + 1} or more",
        ):
            read_off(np.repeat(clean[:D], 4, 0), form)

    def test_a_row_with_too_few_entries_stays(self, clean):
        edited = towards_one_token(clean, 0.15, np.random.default_rng(1))
        edited[3, np.argsort(-edited[3])[D:]] = 0
        edited[3] /= edited[3].sum()
        np.testing.assert_allclose(read_off(edited, "blind")[3], edited[3], atol=1e-12)


def test_rows_that_stay_and_rows_that_change_may_have_different_widths():
    before = sparse(np.array([[0.5, 0.3, 0.2], [0.1, 0.2, 0.7]]), 2)
    after = image._replace_rows(
        before, np.array([[0.2, 0.3, 0.5], [0.1, 0.2, 0.7]]), np.array([True, False])
    )
    assert after.ids_TK.tolist() == [[2, 1, 0], [2, 1, -1]]
    assert np.exp(after.values_TK) == pytest.approx(
        np.array([[0.5, 0.3, 0.2], [0.7, 0.2, 0]]), abs=1e-6
    )
