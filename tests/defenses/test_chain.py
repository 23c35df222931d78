"""A list of defences is a defence; strengths; what is needed and is not there."""

from dataclasses import replace

import pytest
import torch

from defenses import (
    DefensePipeline,
    ProviderResources,
    Strength,
    Traits,
    learn_pipeline,
    require_proxy,
    require_traces,
)
from defenses.decoding import perturbed, temperature
from defenses.release import answer_only, noise, rounding, truncate
from distill.answer_format import AnswerFormat
from distill.completions import BadInput, Interface
from distill.embedded import character_tokenizer
from experiments.settings.components import build_defense

TEMPERATURE = temperature.Defense(temperature.Settings(temperature=0.7))
PERTURBED = perturbed.Defense(perturbed.Settings(eps=0.2))
TRUNCATE = truncate.Defense(truncate.Settings(keep=0.5))
ROUNDING = rounding.Defense(rounding.Settings(decimals=1))


def test_a_chain_answers_as_its_parts_one_after_another(teacher, prompts):
    whole = DefensePipeline(("a", "b", "c"), (TEMPERATURE, PERTURBED, TRUNCATE))
    by_hand = TRUNCATE(PERTURBED(TEMPERATURE(teacher)))
    assert whole(teacher).generate(prompts, seed=1, interface=Interface()) == by_hand.generate(
        prompts, seed=1, interface=Interface()
    )
    traits = whole.traits
    assert (traits.acts_on, traits.extra_forward_passes, traits.keeps_argmax, traits.needs) == (
        "text",
        0.0,
        False,
        (),
    )


@pytest.mark.parametrize(
    ("parts", "acts_on"),
    [
        ((), "none"),
        ((ROUNDING,), "logprobs"),
        ((TEMPERATURE, ROUNDING), "decoding"),
        ((ROUNDING, TRUNCATE), "text"),
    ],
)
def test_a_chain_shows_where_any_part_does(parts, acts_on):
    assert DefensePipeline(tuple("abc"[: len(parts)]), parts).traits.acts_on == acts_on


def test_scores_cannot_be_changed_after_the_answer_is_finished():
    with pytest.raises(
        BadInput, match="cut \\+ mix: mix cannot act after cut; the order is weights"
    ):
        DefensePipeline(("cut", "mix"), (TRUNCATE, PERTURBED))
    # Anywhere in a longer list, not only between the first two.
    with pytest.raises(BadInput, match="warm cannot act after cut"):
        DefensePipeline(("mix", "cut", "warm"), (PERTURBED, TRUNCATE, TEMPERATURE))


def test_the_last_of_two_texts_is_what_is_released(teacher, prompts):
    form = AnswerFormat(mark="=")
    only = answer_only.Defense(answer_only.Settings(), ProviderResources(format=form))
    both = DefensePipeline(("a", "b"), (TRUNCATE, only))(teacher).generate(
        prompts, seed=1, interface=Interface()
    )
    for answer, cut in zip(
        both, TRUNCATE(teacher).generate(prompts, seed=1, interface=Interface()), strict=True
    ):
        assert answer.text == form.split(cut.text).answer.lstrip()


def test_each_part_learns_on_the_model_that_those_before_it_defend(teacher, prompts):
    class Counting(truncate.Defense):
        """Learns how long the answers are of the model that it will defend."""

        traits = replace(truncate.Defense.traits, learns=True)

        def learn(self, model):
            answers = model.generate(prompts, seed=0, interface=Interface())
            return {"length": torch.tensor(sum(len(answer.text) for answer in answers))}

    makers = [lambda given: TRUNCATE, lambda given: Counting(truncate.Settings(keep=0.25), given)]
    nothing, learned = learn_pipeline(makers, ProviderResources(), teacher)
    truncated = TRUNCATE(teacher).generate(prompts, seed=0, interface=Interface())
    assert nothing == {} and int(learned["length"]) == sum(len(answer.text) for answer in truncated)


def test_what_was_learned_is_handed_back_part_by_part():
    spec = [{"name": "release/truncate", "settings": {"keep": keep}} for keep in (0.5, 0.25)]
    made = build_defense(spec, ProviderResources(traces=[1]), [{"x": 1}, {"y": 2}])
    assert [part.settings.keep for part in made.parts] == [0.5, 0.25]
    assert [part.resources.learned for part in made.parts] == [{"x": 1}, {"y": 2}]
    assert all(part.resources.traces == [1] for part in made.parts)


def test_a_strength_spaces_its_values():
    keep = Strength("keep", 1.0, 1.0, 0.0)
    assert [keep.interpolate(share) for share in (0, 0.25, 1)] == [1.0, 0.75, 0.0]
    assert Strength("eps", 0.0, 0.01, 1.0, log=True).interpolate(0.5) == pytest.approx(0.1)


@pytest.mark.parametrize(
    ("traits", "message"),
    [
        ({"acts_on": "weight"}, "acts_on is 'weight' \\(there are: none, weights"),
        ({"acts_on": "text", "needs": ("proxi",)}, "needs names proxi \\(there are: proxy, traces"),
    ],
)
def test_traits_name_what_exists(traits, message):
    with pytest.raises(BadInput, match=message):
        Traits(identity={}, **traits)


def test_a_proxy_must_be_there_and_spell_as_the_teacher_does(teacher, resources):
    assert require_proxy(resources, teacher, "x") is resources.proxy
    with pytest.raises(BadInput, match="defense x: needs a proxy"):
        require_proxy(ProviderResources(), teacher, "x")
    with pytest.raises(BadInput, match="defense x: the proxy has another tokenizer"):
        require_proxy(
            ProviderResources(proxy=replace(resources.proxy, tokenizer=character_tokenizer("ab"))),
            teacher,
            "x",
        )
    with pytest.raises(BadInput, match="defense x: needs clean traces"):
        require_traces(ProviderResources(), "x")


def test_noise_off_is_the_model_itself(teacher):
    assert noise.Defense(noise.Settings(sigma=0.0))(teacher) is teacher
