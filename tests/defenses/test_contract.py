"""What every defence keeps, whatever it does; configs and files are found here, so a new defence edits nothing."""

from __future__ import annotations

import importlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml

from defenses import Given
from distill.answers import Answer, BadInput, Profile
from distill.models import EditedModel

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "defense"
NAMES = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml"))
PROFILES = [Profile(), Profile("top_k", 4), Profile("full")]


def files() -> list[str]:
    """Every selectable defence file; accounts are limited in access/, which maps no model to a model."""
    found = (path.relative_to(ROOT / "defenses").with_suffix("") for path in (ROOT / "defenses").rglob("*.py"))
    return sorted(str(path) for path in found if not path.name.startswith("_") and path.parts[0] != "access")


def module(name: str) -> Any:
    return importlib.import_module("defenses." + name.replace("/", "."))


QUICK = {"steps": 4, "rounds": 1, "samples": 2}  # what is learned need not be learned well to keep a contract


@pytest.fixture(scope="session")
def build(teacher, given):
    """A defence with the settings of its config and some changes; what it learns is learned once for each settings."""
    taught: dict[str, Any] = {}

    def build(name: str, **changes: object) -> Any:
        settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["settings"]
        quick = {field: value for field, value in QUICK.items() if field in settings}
        checked = module(name).Settings(**(settings | quick | changes))
        defense = module(name).Defense(checked, given)
        if not defense.learns:
            return defense
        key = f"{name} {checked!r}"
        if key not in taught:
            taught[key] = defense.learn(teacher)
        return module(name).Defense(checked, replace(given, learned=taught[key]))

    return build


def same(left: list[Answer], right: list[Answer], *, exact: bool = True) -> bool:
    """Equal in every field; numbers to 1e-4 if not exact, as the width of a batch moves a network's last bits."""

    def close(a: Any, b: Any) -> bool:
        return np.array_equal(a, b) if exact else np.allclose(a, b, rtol=0, atol=1e-4)

    def pair(a: Answer, b: Answer) -> bool:
        texts = [(x.prompt_id, x.prompt, x.text, x.token_ids, x.finished, x.passes) for x in (a, b)]
        if texts[0] != texts[1] or (a.logprobs is None) != (b.logprobs is None) or not close(a.l1, b.l1):
            return False
        return (
            a.logprobs is None
            or b.logprobs is None
            or (
                np.array_equal(a.logprobs.ids_TK, b.logprobs.ids_TK)
                and close(a.logprobs.values_TK, b.logprobs.values_TK)
            )
        )

    return len(left) == len(right) and all(map(pair, left, right))


def test_the_tiny_teacher_looks_at_its_prompts(teacher, prompts):
    assert len({answer.text for answer in teacher.answer(prompts, seed=0, profile=Profile())}) == len(prompts)


def test_every_defence_has_a_config_and_every_config_a_defence():
    assert files() == NAMES


@pytest.mark.parametrize("name", NAMES)
def test_a_config_shows_its_name_and_every_field(name):
    config = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())
    assert set(config) == {"name", "settings"} and config["name"] == name
    assert set(config["settings"]) == set(module(name).Settings.model_fields)
    assert (CONFIGS / f"{name}.yaml").read_text().startswith("# ")


@pytest.mark.parametrize("name", NAMES)
def test_a_defence_says_what_it_is(name):
    defense, settings = module(name).Defense, module(name).Settings
    assert defense.point in ("none", "weights", "decoding", "text", "logprobs")
    assert defense.passes >= 0 and isinstance(defense.keeps_argmax, bool) and isinstance(defense.scores, bool)
    assert set(defense.needs) <= {field.name for field in fields(Given)} - {"learned"}
    assert set(defense.identity) <= set(settings.model_fields)
    assert defense.identity or not settings.model_fields, "a defence with settings has some that make it the identity"
    assert name == "none" or defense.paper != "-"


@pytest.mark.parametrize("name", NAMES)
def test_a_knob_goes_from_no_defence_to_its_strongest(name):
    knob = module(name).Defense.knob
    if knob is None:
        return
    assert knob.name in module(name).Settings.model_fields
    settings = yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["settings"]
    whole = isinstance(settings[knob.name], int)
    for share in (0.0, 0.5, 1.0):
        module(name).Settings(**settings | {knob.name: round(knob.at(share)) if whole else knob.at(share)})
    off = module(name).Settings(**settings | {knob.name: knob.identity} | module(name).Defense.identity)
    assert module(name).Defense(off).off


@pytest.mark.parametrize("profile", PROFILES, ids=lambda profile: profile.kind)
@pytest.mark.parametrize("name", NAMES)
class TestEveryDefence:
    def test_keeps_the_order_of_the_prompts(self, build, name, profile, teacher, prompts):
        model = build(name)(teacher)
        forward = model.answer(prompts, seed=3, profile=profile)
        assert [(answer.prompt_id, answer.prompt) for answer in forward] == [(p.id, p.text) for p in prompts]
        assert same(forward[::-1], model.answer(prompts[::-1], seed=3, profile=profile), exact=False)

    def test_says_the_same_for_the_same_seed(self, build, name, profile, teacher, prompts):
        first, again = (build(name)(teacher).answer(prompts, seed=3, profile=profile) for _ in range(2))
        assert same(first, again)

    def test_answers_alone_as_it_does_in_a_batch(self, build, name, profile, teacher, prompts):
        model = build(name)(teacher)
        alone = [model.answer([prompt], seed=3, profile=profile)[0] for prompt in prompts]
        assert same(alone, model.answer(prompts, seed=3, profile=profile), exact=False)

    def test_leaves_the_undefended_model_as_it_was(self, build, name, profile, teacher, prompts):
        before = teacher.answer(prompts, seed=3, profile=profile)
        weights = {key: value.clone() for key, value in teacher.network.state_dict().items()}
        build(name)(teacher).answer(prompts, seed=3, profile=profile)
        assert same(before, teacher.answer(prompts, seed=3, profile=profile))
        assert all((weights[key] == value).all() for key, value in teacher.network.state_dict().items())

    def test_is_the_identity_at_its_identity_settings(self, build, name, profile, teacher, prompts):
        model = build(name, **module(name).Defense.identity)(teacher)
        assert same(teacher.answer(prompts, seed=3, profile=profile), model.answer(prompts, seed=3, profile=profile))

    def test_keeps_the_most_likely_first_token_if_it_says_so(self, build, name, profile, teacher, prompts):
        if not module(name).Defense.keeps_argmax or profile.kind == "text":
            return
        clean = teacher.answer(prompts, seed=3, profile=profile)
        for a, b in zip(clean, build(name)(teacher).answer(prompts, seed=3, profile=profile), strict=True):
            assert a.logprobs.ids_TK[0, 0] == b.logprobs.ids_TK[0, 0]

    def test_counts_its_passes(self, build, name, profile, teacher, prompts):
        defense = build(name)
        for answer in defense(teacher).answer(prompts, seed=3, profile=profile):
            assert answer.passes == teacher.passes + defense.passes

    def test_releases_rows_in_order_and_no_more_than_the_profile_allows(self, build, name, profile, teacher, prompts):
        for answer in build(name)(teacher).answer(prompts, seed=3, profile=profile):
            if answer.logprobs is not None:
                assert profile.kind == "full" or answer.logprobs.ids_TK.shape[1] <= profile.k
                assert (answer.logprobs.values_TK[:, :-1] >= answer.logprobs.values_TK[:, 1:]).all()

    def test_wants_scores_if_it_acts_before_the_answer_is_finished(self, build, name, profile, teacher, prompts):
        wrapped = EditedModel(teacher, lambda answer: answer)
        if module(name).Defense.scores:
            with pytest.raises(BadInput, match=f"{name}.*EditedModel.*LanguageModel"):
                build(name)(wrapped)
        else:
            assert build(name)(wrapped).answer(prompts[:1], seed=0, profile=profile)
