"""Substitution of tokens by gradients against torch's cross-entropy, brute force over every single
substitution, and steps of training.
"""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
import torch
from scipy.stats import spearmanr
from torch.nn import functional
from transformers import GPT2Config, GPT2LMHeadModel

from defenses import ProviderResources
from defenses.release import _substitution
from defenses.release._substitution import NORM, loss_rise, reasoning_tokens, token_slopes
from defenses.release.rewrite import Defense, Settings
from defenses.trained import Row, changed, copied, loss, rows, unit_direction
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Completion, Interface
from distill.embedded import character_tokenizer, llama
from distill.models import EditedModel, LanguageModel
from distill.rendering import text_ids
from experiments.settings.entries import resolve
from experiments.stages.models import StoredModel

ROW = Row([3, 1, 4], [5, 9, 2, 6])
VOCABULARY = 11
ALPHABET = "0123456789+=# "
SUMS = {"1+1=": "1+1=2 # 2", "23+9=": "3+9=12 # 32", "7+80=": "07+80 # 87", "4+4=": "8 # 8"}
ANSWERS = [Completion(question, question, text) for question, text in SUMS.items()]
TEXT_ALONE = StoredModel([])  # a teacher whose network nobody sees
MOST = 1000  # every substitution is tried


def gpt2(**more):
    """A tiny network that is double precision all the way; its head is its embedding."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        size = {"n_positions": 16, "n_embd": 8, "n_layer": 2, "n_head": 2} | more
        config = GPT2Config(
            vocab_size=VOCABULARY, initializer_range=0.5, bos_token_id=0, eos_token_id=0, **size
        )
        return GPT2LMHeadModel(config).eval().double()


@pytest.fixture(scope="module")
def network():
    return gpt2()


@pytest.fixture(scope="module")
def direction(network):
    generator = torch.Generator().manual_seed(1)
    random = {
        n: torch.randn(p.shape, dtype=p.dtype, generator=generator)
        for n, p in network.named_parameters()
    }
    return unit_direction(random, "test")[0]


def moved(network, direction, size):
    named = dict(network.named_parameters())
    return changed(network, {name: named[name] + size * d for name, d in direction.items()})


def single_substitutions(row=ROW):
    """Answers with one token substituted `[place, token, T]`."""
    answers = torch.tensor(row.answer_ids).expand(len(row.answer_ids), VOCABULARY, -1).clone()
    for place in range(len(row.answer_ids)):
        answers[place, :, place] = torch.arange(VOCABULARY)
    return answers


def brute_rise(network, direction, answers_BT, size=1e-5):
    """J of answers to the row's prompt, by central differences of torch's cross-entropy."""

    def mean_logprobs(network):
        tokens_BT = torch.cat(
            [torch.tensor(ROW.prompt_ids).expand(len(answers_BT), -1), answers_BT], 1
        )
        with torch.no_grad():
            logits_BTV = network(input_ids=tokens_BT).logits[:, 2:-1]
        nats_BT = functional.cross_entropy(logits_BTV.mT, answers_BT, reduction="none")
        return -nats_BT.mean(1)

    up, down = (moved(network, direction, sign * size) for sign in (1, -1))
    return (mean_logprobs(up) - mean_logprobs(down)) / (2 * size)


class TestRise:
    def test_is_differences_of_the_loss(self, network, direction):
        answers = single_substitutions().reshape(-1, 4)
        rises = loss_rise(network, direction, ROW.prompt_ids, answers)
        assert rises.std() > 0.1 and rises.dtype == torch.float64
        torch.testing.assert_close(
            rises, brute_rise(network, direction, answers), rtol=1e-6, atol=1e-8
        )

    def test_is_what_a_step_of_training_adds_to_the_loss_of_clean_traces(self, resources):
        """d the gradient of that loss: a step of size eta adds eta |gradient| J."""
        proxy, (answer,) = resources.proxy, rows(resources.proxy, ANSWERS[:1])
        traces = rows(proxy, [replace(trace, token_ids=()) for trace in resources.traces])
        learned = dict(Defense(Settings(search="gradient"), resources).learn(TEXT_ALONE))
        norm = float(learned.pop(NORM))
        rise = loss_rise(
            proxy.network, learned, answer.prompt_ids, torch.tensor([answer.answer_ids])
        )
        losses = {}
        for eta in (-0.002, 0.002):
            twin = copied(proxy.network).double()
            loss(twin, [answer]).backward()
            with torch.no_grad():
                for p in twin.parameters():
                    p -= eta * p.grad
                losses[eta] = float(loss(twin, traces))
        assert (losses[0.002] - losses[-0.002]) / 0.004 == pytest.approx(
            norm * float(rise), rel=0.01
        )


class TestTokenSlopes:
    def test_are_differences_in_one_hot_rows(self, network, direction):
        """A second difference, in weights and in rows, of a plain soft cross-entropy."""

        def soft(network, onehot_TV):
            table = network.get_input_embeddings().weight
            inputs = torch.cat([table[ROW.prompt_ids], onehot_TV @ table])[None]
            logits = network(inputs_embeds=inputs).logits[0, 2:-1]
            return -functional.cross_entropy(logits, onehot_TV)

        slopes = token_slopes(copied(network), direction, ROW, VOCABULARY)
        onehot = functional.one_hot(torch.tensor(ROW.answer_ids), VOCABULARY).double()
        up, down = (moved(network, direction, size) for size in (1e-4, -1e-4))
        brute = torch.empty_like(slopes)
        with torch.no_grad():
            for place in torch.cartesian_prod(torch.arange(4), torch.arange(VOCABULARY)).tolist():
                rises = []
                for h in (1e-4, -1e-4):
                    other = onehot.clone()
                    other[tuple(place)] += h
                    rises.append((soft(up, other) - soft(down, other)) / 2e-4)
                brute[tuple(place)] = (rises[0] - rises[1]) / 2e-4
        assert slopes.std() > 0.05
        torch.testing.assert_close(slopes, brute, rtol=1e-4, atol=1e-5)

    def test_the_last_tokens_are_its_change_exactly(self, network, direction):
        """Nothing reads the last token, and J is linear in what is said."""
        slopes = token_slopes(copied(network), direction, ROW, VOCABULARY)[-1]
        answers = single_substitutions()[-1]
        rises = brute_rise(network, direction, answers)
        last = ROW.answer_ids[-1]
        torch.testing.assert_close(slopes - slopes[last], rises - rises[last], rtol=1e-6, atol=1e-8)

    @pytest.mark.parametrize("seed", range(3))
    def test_rank_all_single_substitutions_as_brute_force_does(self, seed):
        """Where embeddings are so near each other that first order says much."""
        network = gpt2()
        with torch.no_grad():
            network.transformer.wte.weight *= 0.1
        generator = torch.Generator().manual_seed(seed)
        direction = {
            n: torch.randn(p.shape, dtype=p.dtype, generator=generator)
            for n, p in network.named_parameters()
        }
        slopes = token_slopes(copied(network), direction, ROW, VOCABULARY)
        answers_T = torch.tensor(ROW.answer_ids)
        gains = slopes - slopes.gather(1, answers_T[:, None])
        rises = brute_rise(network, direction, single_substitutions().reshape(-1, 4))
        assert spearmanr(gains.flatten(), rises).statistic > 0.8


def taught(resources, **settings):
    """A defence that has learned from a teacher without a network."""
    options = Settings(search="gradient", **settings)
    learned = Defense(options, resources).learn(TEXT_ALONE)
    return Defense(options, replace(resources, learned=learned))


def released(defense, answers=ANSWERS):
    return defense(StoredModel(answers)).generate((), seed=0, interface=Interface())


def favouring(network, prompt, text):
    """The direction of a network's weights in which a text becomes likelier."""
    twin = copied(network)
    loss(twin, [Row(prompt, text)]).backward()
    return {name: -p.grad for name, p in twin.named_parameters()}


def differing(before, after):
    return sum(a != b for a, b in zip(before, after, strict=True))


class TestDefense:
    def test_makes_the_one_substitution_that_brute_force_finds(self, resources):
        """Of every letter of the reasoning by every other, without a gradient by tokens."""
        defense = taught(resources, substituted=0.01, samples=MOST)
        proxy = replace(resources.proxy, network=copied(resources.proxy.network).double())
        up, down = (
            moved(
                proxy.network,
                {n: d.double() for n, d in defense.resources.learned.items() if n != NORM},
                size,
            )
            for size in (1e-5, -1e-5)
        )

        def rise(answer):
            batch = rows(proxy, [answer])
            return float(loss(down, batch) - loss(up, batch))

        for answer, new in zip(ANSWERS, released(defense), strict=True):
            reasoning, mark, final = answer.text.partition(" # ")
            others = {
                reasoning[:i] + letter + reasoning[i + 1 :] + mark + final
                for i in range(len(reasoning))
                for letter in ALPHABET
            }
            fair = [
                text
                for text in others
                if "#" not in text.removesuffix(mark + final)
                and "  " not in text
                and text[0] != " "
            ]
            best = max(fair, key=lambda text: rise(replace(answer, text=text)))
            assert new.text == best != answer.text

    @pytest.mark.parametrize(("samples", "least"), [(1, 2), (8, 4)])
    def test_a_share_of_the_tokens_is_substituted_and_the_rise_grows(
        self, resources, samples, least
    ):
        defense = taught(resources, substituted=0.4, samples=samples)
        learned = {n: d for n, d in defense.resources.learned.items() if n != NORM}
        grown = 0
        for answer, new in zip(ANSWERS, released(defense), strict=True):
            reasoning = answer.text.index(" #")
            assert 0 <= differing(answer.text, new.text) <= math.ceil(0.4 * reasoning)
            before, after = (
                float(
                    loss_rise(
                        resources.proxy.network,
                        learned,
                        row.prompt_ids,
                        torch.tensor([row.answer_ids]),
                    )
                )
                for row in rows(resources.proxy, [replace(answer, token_ids=()), new])
            )
            assert after >= before and (after > before) == (answer.text != new.text)
            if answer.text == new.text:  # nothing that was tried is better: the search ends
                again = 1 + len(answer.prompt) / (len(answer.text) + 1)
                assert new.passes == pytest.approx(1 + again * (9 + 3 * (1 + samples)))
            grown += after > before
        assert grown >= least

    def test_students_of_it_lose_more_than_of_clean_answers_or_of_noise(self, resources):
        """One plain step of training on all answers, at three sizes."""
        new = released(taught(resources, substituted=1.0, samples=8))
        rng = torch.Generator().manual_seed(0)
        noise = []
        for before, after in zip(ANSWERS, new, strict=True):
            drawn = torch.randint(10, (len(before.text),), generator=rng).tolist()
            pairs = zip(before.text, after.text, drawn, strict=True)
            letters = [str(digit) if a != b else a for a, b, digit in pairs]
            noise.append(replace(before, text="".join(letters)))
        traces = rows(resources.proxy, [replace(one, token_ids=()) for one in resources.traces])

        def after_a_step(answers, size):
            twin = copied(resources.proxy.network)
            loss(twin, rows(resources.proxy, answers)).backward()
            with torch.no_grad():
                for p in twin.parameters():
                    p -= size * p.grad
            return float(loss(twin, traces).detach())

        for size in (0.01, 0.03, 0.1):
            clean, garbled, substituted = (after_a_step(one, size) for one in (ANSWERS, noise, new))
            assert substituted > max(clean, garbled)

    @pytest.mark.parametrize("mark", ["#", "# 1 # "])
    def test_the_final_answer_stays_even_where_its_mark_would_hurt_most(self, resources, mark):
        """A direction in which the mark of an answer becomes likely everywhere."""
        proxy = resources.proxy
        text = text_ids(proxy.tokenizer, mark * 8)[:20]
        learned = favouring(proxy.network, proxy.encode(ANSWERS[0].question), text)
        settings = Settings(search="gradient", substituted=1.0, samples=MOST)
        defense = Defense(settings, replace(resources, learned=learned))
        new = released(defense)
        for before, after in zip(ANSWERS, new, strict=True):
            form = resources.format
            assert form.split(before.text).answer == form.split(after.text).answer
        assert sum(a.text != b.text for a, b in zip(ANSWERS, new, strict=True)) >= 3

    def test_what_is_thought_is_substituted_and_its_tags_stay(self):
        tokenizer = character_tokenizer("<think>/0123456789+=#; ")
        network = llama(
            tokenizer, hidden_size=8, num_layers=1, num_heads=2, max_length=64, seed=1, init=0.5
        )
        text = "<think>\n1+2=3</think> 3;3 # 3".replace("\n", " ")
        answer = Completion("q", "1+2=", text)
        resources = ProviderResources(
            proxy=LanguageModel(network, tokenizer), traces=ANSWERS, format=AnswerFormat(steps=";")
        )
        (new,) = released(taught(resources, substituted=1.0, samples=20), [answer])
        opened, thought, shown, final = new.text[:8], new.text[8:13], new.text[21:25], new.text[25:]
        assert (opened, new.text[13:21], final) == ("<think> ", "</think>", " # 3")
        assert thought != "1+2=3" and shown != " 3;3"

    def test_what_is_released_is_read_as_the_tokens_that_were_tried(self, worlds, monkeypatch):
        """Byte pairs: most spellings of random tokens are read as others."""
        teacher, resources, prompts = worlds["llama"]
        batches = []

        def seen(network, direction, prompt, answers_BT):
            batches.extend(answers_BT.tolist())
            return loss_rise(network, direction, prompt, answers_BT)

        monkeypatch.setattr(_substitution, "loss_rise", seen)
        defense = taught(resources, substituted=1.0, samples=8)
        answers = teacher.generate(prompts, seed=3, interface=Interface())
        new = released(defense, answers)
        assert sum(a.text != b.text for a, b in zip(answers, new, strict=True)) >= 3
        end = [resources.proxy.tokenizer.eos_token_id]
        for before, after in zip(answers, new, strict=True):
            read = text_ids(resources.proxy.tokenizer, after.text) + end * after.finished
            assert after.text == before.text or read in batches

    def test_what_the_proxy_cannot_read_or_spell_and_what_is_not_chosen_stays(self, resources):
        answers = [Completion("a", "1+1=", "1+1=2 # 2"), Completion("b", "1+1=", "1é1=2 # 2")]
        answers.append(Completion("c", "1+1=", "1" * 80 + " # 2"))
        answers.append(Completion("d", "1+1=", "# 2"))
        new = released(taught(resources, samples=8), answers)
        assert [a.text == b.text for a, b in zip(answers, new, strict=True)] == [False] + [True] * 3
        assert [one.passes > 1 for one in new] == [True] + [False] * 3
        part = released(taught(resources, samples=8, share=0.5, key="k"))
        unchanged = [a.text == b.text and b.passes == 1 for a, b in zip(ANSWERS, part, strict=True)]
        assert len({*unchanged}) == 2 and all(one.token_ids == () for one in part)

    def test_needs_a_proxy_whose_weights_are_there_and_traces_but_no_rewriter(self, resources):
        options = Settings(search="gradient")
        traits = Defense(options).traits
        assert traits.needs == ("proxy", "traces") and traits.learns
        assert "rewriter" in Defense(Settings(rounds=1)).traits.needs
        far = replace(resources, proxy=EditedModel(resources.proxy, lambda answer: answer))
        for there, line in (
            (replace(resources, proxy=None), "release/rewrite: needs a proxy"),
            (far, "needs the proxy's weights; a EditedModel has none"),
            (replace(resources, proxy=TEXT_ALONE), "needs the proxy's weights; a StoredModel"),
            (replace(resources, traces=()), "needs clean traces"),
            (replace(resources, traces=[Completion("a", "1=", "1" * 80)]), "holds none of 1 trace"),
        ):
            with pytest.raises(BadInput, match=line):
                Defense(options, there).learn(TEXT_ALONE)
        with pytest.raises(BadInput, match="release/rewrite: .* let it learn one first"):
            Defense(options, resources)(TEXT_ALONE)
        with pytest.raises(BadInput, match="needs the proxy's weights"):
            Defense(options, replace(far, learned={"a": torch.zeros(1)}))(TEXT_ALONE)
        no_defence = Defense(Settings(search="gradient", share=0.0), resources)
        assert no_defence.learn(TEXT_ALONE) == {} and no_defence(TEXT_ALONE) is TEXT_ALONE


def test_the_reasoning_is_what_is_thought_and_what_is_shown():
    tokenizer = character_tokenizer("<think>/ab #")
    text = "<think> ab </think> a b # a"
    places = reasoning_tokens(tokenizer, text, AnswerFormat())
    assert "".join(text[i] for i in places) == "ab a b"
    assert reasoning_tokens(tokenizer, "# a", AnswerFormat()) == []
    assert reasoning_tokens(tokenizer, "ab", AnswerFormat()) == [0, 1]


def test_what_is_as_ever_is_not_written_so_that_addresses_stay():
    ever = {*"steps batch_size learning_rate share instruction rounds samples key".split()}
    plain = resolve("defense", "release/rewrite").spec
    assert {*plain.settings} == ever
    same = resolve("defense", "release/rewrite(search=opro,substituted=0.1)").spec
    assert same == plain
    new = resolve("defense", "release/rewrite(search=gradient,substituted=0.2)").spec
    assert {*new.settings} == ever | {"search", "substituted"}
    assert {*resolve("defense", "release/hindsight").spec.settings} == ever


def test_rounds_of_instructions_beside_a_gradient_are_refused_in_one_line():
    with pytest.raises(BadInput, match="rounds are of instructions") as error:
        resolve("defense", "release/rewrite(search=gradient,rounds=2)")
    assert "\n" not in str(error.value)
