"""A rewriter by one instruction, and the search for it: what is asked, scored, and taken."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import pytest
import torch
import yaml

from defenses.release import hindsight, is_edited, rewrite
from defenses.release.rewrite import Defense, Settings, opro, proposal, with_place
from distill.completions import BadInput, Completion, Interface, Prompt
from experiments.stages.models import StoredModel
from tests.defenses.release.texts import LETTERS, STEPS, final_answer

NUMBERS = {"{reasoning}": 0.1, "a\n\n{reasoning}": 0.3, "b\n\n{reasoning}": 0.2}


def test_the_best_instruction_is_found_and_all_that_were_tried_are_shown():
    shown, answers = [], iter([["b", "a", " "], ["c {reasoning}", "a", "a"]])

    def propose(scores, samples):
        assert samples == 3
        shown.append(dict(scores))
        return next(answers)

    scores = opro((NUMBERS | {"c {reasoning}": 0.25}).__getitem__, propose, "{reasoning}", 2, 3)
    assert scores == NUMBERS | {"c {reasoning}": 0.25}  # nothing twice, and nothing of nothing
    assert shown == [{"{reasoning}": 0.1}, NUMBERS]


def test_a_proposal_shows_the_ten_best_the_best_last():
    scores = {f"say {i}\n\n{{reasoning}}": i / 100 for i in (3, *range(12))}
    text = proposal(scores)
    assert [f"say {i}\n" in text for i in range(12)] == [False] * 2 + [True] * 10
    assert text.index("say 2\n") < text.index("say 10\n") < text.index("say 11\n")
    assert "Score: 11.0" in text and "{" not in text


def test_an_instruction_without_a_place_gets_one():
    assert with_place(" Be dense. ") == "Be dense.\n\n{reasoning}"
    assert with_place("Of {reasoning} write less") == "Of {reasoning} write less"


@dataclass(frozen=True)
class Rewriter:
    """Writes what a function makes of what it is asked; proposals are sampled, rewritings not."""

    write: object
    tokenizer: object = LETTERS
    temperature: float = 0.0
    context: int = 2000
    max_new_tokens: int = 50
    prompts: list = field(default_factory=list)

    def generate(self, prompts, *, seed, interface):
        assert (self.temperature == 1.0) == (prompts[0].id == "proposal")
        self.prompts.extend(prompt.text for prompt in prompts)
        return [Completion(p.id, p.text, self.write(p), (5,), passes=1.0) for p in prompts]


def test_the_search_takes_what_hurts_a_proxy_most(resources, teacher, monkeypatch):
    """Of three instructions, the one whose rewriting the score likes best; the proxy is tuned on
    what the rewriter wrote, and on nothing else.
    """

    def write(prompt):
        if prompt.id == "proposal":
            return f"try {prompt.attempt}"
        return "1" if "try 1" in prompt.text else "2"

    seen = []

    def hurt(proxy, shown, held_out, form, settings):
        seen.append({answer.text.partition("#")[0].strip() for answer in shown})
        assert not {answer.prompt for answer in shown} & {answer.prompt for answer in held_out}
        return 0.9 if seen[-1] == {"1"} else 0.4

    monkeypatch.setattr(rewrite, "hurt", hurt)
    traces = [Completion.to(Prompt(str(i), f"{i}+{i}="), f"{i} # {i}") for i in range(8)]
    resources = replace(resources, rewriter=Rewriter(write), traces=traces, format=STEPS)
    settings = Settings(rounds=1, samples=2)
    assert Defense(settings).traits.learns and "proxy" in Defense(settings).traits.needs
    learned = Defense(settings, resources).learn(teacher)
    assert seen == [{"2"}, {"2"}, {"1"}]
    assert learned["scores"].tolist() == [0.4, 0.4, 0.9]
    after = Defense(settings, replace(resources, learned=learned))
    assert after.instruction == "try 1\n\n{reasoning}"
    (answer,) = after(StoredModel(traces[:1])).generate((), seed=0, interface=Interface())
    assert answer.text == "1 # 0"


def test_a_real_proxy_tells_candidates_apart_and_a_search_repeats_itself(resources, teacher):
    """A proposal drowns the reasoning, the first keeps it; the proxy stays as it was."""
    settings = Settings(rounds=1, samples=1, steps=3, learning_rate=0.01, instruction="{reasoning}")
    write = lambda prompt: "7" * 20 if prompt.id == "proposal" else prompt.text[:9].strip()  # noqa: E731
    resources = replace(resources, rewriter=Rewriter(write))
    before = [value.clone() for value in resources.proxy.network.parameters()]
    learned, again = (Defense(settings, resources).learn(teacher) for _ in range(2))
    assert all(torch.equal(learned[name], again[name]) for name in learned)
    assert len(learned["scores"].unique()) == 2
    assert all(map(torch.equal, before, resources.proxy.network.parameters()))


def test_a_share_of_the_answers_is_rewritten_and_keeps_its_final_answer(
    teacher, prompts, resources
):
    defense = Defense(Settings(share=0.5, instruction="{reasoning}"), resources)
    released = defense(teacher).generate(prompts, seed=0, interface=Interface("full"))
    clean = teacher.generate(prompts, seed=0, interface=Interface())
    for before, after in zip(clean, released, strict=True):
        assert final_answer(before.text) == final_answer(after.text)
        assert after.token_ids == () and after.logprobs is None
        rewritten = is_edited(before.prompt, "rewrite", 0.5)
        assert (after.passes > 1) == (rewritten and "#" != before.text[:1] != "")
        assert rewritten or before.text == after.text
    assert len({is_edited(answer.prompt, "rewrite", 0.5) for answer in clean}) == 2
    assert Defense(Settings(share=0.0), resources)(teacher) is teacher


def test_a_rewriter_is_shown_as_many_of_the_best_as_it_can_read(resources):
    scores = {f"say {i} " + "x" * 200: i / 10 for i in range(5)}
    proposed = {}
    for context in (3000, 1000):
        rewriter = Rewriter(lambda prompt: "n", context=context)
        defense = Defense(Settings(rounds=1), replace(resources, rewriter=rewriter))
        assert defense._propose(scores, 2) == ["n", "n"]
        proposed[context] = rewriter.prompts[0].count("say ")
    assert proposed == {3000: 5, 1000: 2}
    short = replace(resources, rewriter=Rewriter(str, context=100))
    with pytest.raises(BadInput, match="context of 100 tokens holds no request"):
        Defense(Settings(rounds=1), short)._propose(scores, 2)


def test_hindsight_is_told_the_question_and_the_answer():
    rewriter = Rewriter(lambda prompt: "sure")
    answer = Completion("q", "how many?", "hm;3+4=7 # 7", (1,))
    resources = hindsight.Defense(hindsight.Settings()).resources
    resources = replace(resources, rewriter=rewriter, format=STEPS)
    defense = hindsight.Defense(hindsight.Settings(), resources)
    (new,) = defense(StoredModel([answer])).generate((), seed=0, interface=Interface())
    assert new.text == "sure # 7"
    (prompt,) = rewriter.prompts
    assert "Question: how many?\n\nReasoning: hm;3+4=7\n\nAnswer: # 7" in prompt


@pytest.mark.parametrize("module", [rewrite, hindsight])
def test_the_config_is_the_default_and_what_is_missing_is_said(module, teacher, resources):
    name = module.Defense.NAME
    config = yaml.safe_load(open(f"configs/defense/{name}.yaml"))["settings"]
    assert module.Settings(**config) == module.Settings()
    with pytest.raises(BadInput, match=f"{name}.*rewriter"):
        module.Defense(module.Settings())(teacher)
    searching = module.Settings(rounds=1)
    with pytest.raises(BadInput, match=f"{name}.*learn one first"):
        module.Defense(searching, resources)(teacher)
    with pytest.raises(BadInput, match=f"{name}.*proxy"):
        module.Defense(searching, replace(resources, proxy=None)).learn(teacher)
