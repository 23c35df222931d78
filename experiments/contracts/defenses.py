"""The contract of a defence: what one says of itself, by its name, and what its variants keep on
the tiny teacher of a case.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import replace
from functools import partial
from typing import Any, Literal, NamedTuple, get_args, get_origin

import numpy as np

from defenses import Traits
from distill.completions import BadInput, Completion, Interface, Logprobs, Prompt
from distill.models import EditedModel, Model
from distill.recordings import RecordedModel, by_question
from experiments.contracts import NotApplicable, require
from experiments.contracts.answers import distance, first_difference, same, tokens
from experiments.contracts.worlds import World
from experiments.settings.components import load_module
from experiments.settings.entries import read_config

SEED = 3
QUICK = {"steps": 4, "rounds": 1, "samples": 2}
"""What is learned need not be learned well to keep a contract."""
HEAVIER = {"release/rounding": np.exp(0.05), "release/rounding(of=probabilities)": 2.0}
"""Mass of a row: rounding to 1 decimal does not renormalise, see there; no probability more than
doubles.
"""
WORKED = (
    "3*12=36;3+36=39 # 39",
    "7+805=812;So the sum is 812, or 812.0. # 812",
    "c=3;a=3+4=7;b=7-3=4 # 4",
)
"""Finished answers, whose steps end in `;`."""
BUDGETS = {"decoding/perturbed": 2.0}
"""L1 that a setting `eps` allows, where it is not eps itself."""

module = partial(load_module, "defense")


def shown(name: str) -> dict[str, Any]:
    """The settings of a defence's config."""
    return dict(read_config("defense", name).settings)


class Variant(NamedTuple):
    """A defence with the settings of its config but for some."""

    name: str
    changes: dict[str, Any] = {}

    def __str__(self) -> str:
        return self.name + "".join(f"({field}={value})" for field, value in self.changes.items())


def choices(name: str) -> list[Variant]:
    """The defence with every other choice that its settings have; rewriters, which tiny ones are
    not, aside.

    Args:
        name: of the defence.
    """
    variants = []
    for field, info in module(name).Settings.model_fields.items():
        options = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        options = (False, True) if info.annotation is bool else options
        others = [option for option in options if option != shown(name)[field]]
        variants += [Variant(name, {field: option}) for option in others]
    return [variant for variant in variants if "rewriter" not in _unhanded(variant).traits.needs]


def _unhanded(variant: Variant) -> Any:
    """The defence of a variant that was handed nothing."""
    kind = module(variant.name)
    return kind.Defense(kind.Settings(**shown(variant.name) | variant.changes))


class Case:
    """A teacher and what is seen of it; what a defence learned and what it answered are kept, so
    that both are made once.

    Args:
        world: a teacher, what its provider has, and prompts.
        interface: what is released.
    """

    def __init__(self, world: World, interface: Interface) -> None:
        self.teacher, self.resources, self.prompts = world
        self.interface = interface
        self.before = self.weights()
        self._learned: dict[str, Any] = {}
        self._answers: dict[str, list[Completion]] = {}

    def weights(self) -> list[Any]:
        """Those of the teacher and of what its provider has."""
        models = (self.teacher, self.resources.proxy, self.resources.rewriter)
        networks = [model.network for model in models if model]
        return [value.clone() for network in networks for value in network.state_dict().values()]

    def build(self, variant: Variant, **changes: object) -> Any:
        """The defence of a variant, which has learned what it has to.

        Args:
            variant: a defence and what of its config is changed.
            **changes: settings that count instead of the variant's.

        Raises:
            BadInput: it cannot learn from this teacher.
        """
        settings, kind = shown(variant.name), module(variant.name)
        quick = {field: value for field, value in QUICK.items() if settings.get(field)}
        checked = kind.Settings(**(settings | quick | variant.changes | changes))
        defense = kind.Defense(checked, self.resources)
        if not defense.traits.learns:
            return defense
        key = f"{variant.name} {checked!r}"
        if key not in self._learned:
            self._learned[key] = defense.learn(self.teacher)
        return kind.Defense(checked, replace(self.resources, learned=self._learned[key]))

    def defend(self, variant: Variant, **changes: object) -> Model:
        """The teacher with that defence.

        Args:
            variant: a defence and what of its config is changed.
            **changes: settings that count instead of the variant's.

        Raises:
            BadInput: it cannot defend this teacher.
            NotApplicable: it cannot for a greedy one, and has no contract to keep there.
        """
        try:
            model: Model = self.build(variant, **changes)(self.teacher)
        except BadInput as error:
            if self.teacher.temperature == 0 and "temperature 0" in str(error):
                raise NotApplicable(str(error)) from None
            raise
        return model

    def ask(self, model: Model, prompts: Sequence[Prompt] = ()) -> list[Completion]:
        """What a model answers to some prompts, or to all of the case.

        Args:
            model: the teacher, defended or not.
            prompts: none for all of the case.
        """
        return model.generate(prompts or self.prompts, seed=SEED, interface=self.interface)

    def answers(self, variant: Variant | None = None) -> list[Completion]:
        """What the undefended teacher, or it with a defence, answers to all prompts.

        Args:
            variant: None for the undefended teacher.
        """
        key = str(variant)
        if key not in self._answers:
            self._answers[key] = self.ask(self.defend(variant) if variant else self.teacher)
        return self._answers[key]


# What is equal


# What a defence says of itself


def it_says_what_it_is(name: str) -> None:
    defense, settings = module(name).Defense, module(name).Settings
    traits: Any = getattr(defense, "traits", None)
    require(isinstance(traits, Traits), "no `traits = Traits(...)` says what it is")
    passes = traits.extra_forward_passes
    require(not passes < 0, f"extra_forward_passes are {passes}")
    for trait in ("keeps_argmax", "requires_logits"):
        require(isinstance(getattr(traits, trait), bool), f"{trait} is no truth value")
    unknown = {*traits.identity} - {*settings.model_fields}
    require(not unknown, f"identity names no setting of it: {', '.join(unknown)}")
    require(
        bool(traits.identity) or not settings.model_fields,
        "no settings make it the identity; write them as `identity`",
    )
    require(name == "none" or traits.paper != "-", "no `paper` says where it comes from")
    off = defense(settings(**shown(name))).is_identity
    require(name == "none" or not off, "the settings of its config make it no defence")


def its_strength_goes_from_no_defence_to_the_strongest(name: str) -> None:
    strength, settings = module(name).Defense.traits.strength, module(name).Settings
    if strength is None:
        raise NotApplicable("it has no one strength")
    require(strength.name in settings.model_fields, f"{strength.name} is no setting of it")
    values = shown(name)
    whole = isinstance(values[strength.name], int)
    for share in (0.0, 0.5, 1.0):
        value = strength.interpolate(share)
        settings(**values | {strength.name: round(value) if whole else value})
    off = settings(
        **values | {strength.name: strength.identity} | dict(module(name).Defense.traits.identity)
    )
    require(module(name).Defense(off).is_identity, "its identity settings do not switch it off")


ITSELF = (it_says_what_it_is, its_strength_goes_from_no_defence_to_the_strongest)


# What it keeps


def it_keeps_the_order_of_the_prompts(variant: Variant, case: Case) -> None:
    forward = case.answers(variant)
    sent = [(prompt.id, prompt.text) for prompt in case.prompts]
    got = [(answer.prompt_id, answer.prompt) for answer in forward]
    require(got == sent, f"asked {sent}, answered {got}")
    backward = case.ask(case.defend(variant), case.prompts[::-1])
    require(
        same(forward[::-1], backward, exact=False),
        f"asked backwards, {first_difference(forward[::-1], backward)}",
    )


def it_says_the_same_for_the_same_seed(variant: Variant, case: Case) -> None:
    first, second = case.answers(variant), case.ask(case.defend(variant))
    require(same(first, second), first_difference(first, second))


def it_answers_alone_as_it_does_in_a_batch(variant: Variant, case: Case) -> None:
    model, together = case.defend(variant), case.answers(variant)
    for i in (0, len(case.prompts) - 1):
        alone = case.ask(model, [case.prompts[i]])
        require(
            same(alone, [together[i]], exact=False),
            f"alone and in a batch, {first_difference(alone, [together[i]])}",
        )


def it_leaves_the_undefended_model_as_it_was(variant: Variant, case: Case) -> None:
    clean, _ = case.answers(), case.answers(variant)
    require(same(clean, case.ask(case.teacher)), "the undefended teacher answers otherwise")
    equal = [bool((a == b).all()) for a, b in zip(case.before, case.weights(), strict=True)]
    require(all(equal), "it changed weights of the teacher, the proxy or the rewriter")


def it_is_the_identity_at_its_identity_settings(variant: Variant, case: Case) -> None:
    model = case.defend(variant, **module(variant.name).Defense.traits.identity)
    clean, released = case.answers(), case.ask(model)
    require(same(clean, released), first_difference(clean, released))


def it_keeps_the_likeliest_tokens_if_it_says_so(variant: Variant, case: Case) -> None:
    if not case.build(variant).traits.keeps_argmax or case.interface.kind == "text":
        raise NotApplicable("it says no such thing, or nothing shows it")
    for a, b in zip(case.answers(), case.answers(variant), strict=True):
        assert a.logprobs and b.logprobs
        # Where the two texts part, what comes before is no longer the same.
        alike = 1
        while alike < len(a.logprobs.ids_TK) and a.token_ids[:alike] == b.token_ids[:alike]:
            alike += 1
        same = (a.logprobs.ids_TK[:alike, 0] == b.logprobs.ids_TK[:alike, 0]).all()
        require(bool(same), f"to {a.prompt[:40]!r} another token is the likeliest")


def it_keeps_the_final_answer_if_it_says_so(variant: Variant, case: Case) -> None:
    defense = case.build(variant)
    traits = defense.traits
    if traits.acts_on != "text" or not traits.keeps_answer or traits.requires_logits:
        raise NotApplicable("it says no such thing, or edits no finished text")
    worked = [Completion(f"worked{i}", f"{i}?", text) for i, text in enumerate(WORKED)]
    finished = RecordedModel(by_question(worked), "worked solutions")
    prompts = [Prompt(one.prompt_id, one.prompt) for one in worked]
    released = defense(finished).generate(prompts, seed=SEED, interface=Interface())
    form = case.resources.format
    for before, after in zip(worked, released, strict=True):
        final, new = form.final(before.text), form.final(after.text)
        require(final == new, f"the final answer {final!r} of {before.text!r} becomes {new!r}")


def it_counts_its_passes(variant: Variant, case: Case) -> None:
    defense = case.build(variant)
    expected = case.teacher.passes + defense.traits.extra_forward_passes
    for answer in case.answers(variant):
        right = math.isnan(expected) or answer.passes == expected
        require(right, f"an answer says {answer.passes}, {expected} are said")
    answer, calls = _count_calls(variant, case)
    # Text that was edited has no tokens any more.
    spelled = case.answers()[0] if defense.traits.acts_on == "text" else answer
    steps = len(spelled.token_ids) + spelled.finished
    require(
        steps <= calls <= answer.passes * steps,  # a dual pass is one call and counts as more
        f"{calls} forward passes for {steps} tokens, where {answer.passes} each are said",
    )


def _count_calls(variant: Variant, case: Case) -> tuple[Completion, int]:
    """The answer to the first prompt, and the forward passes of any network that it took."""
    calls: list[int] = []
    models = (case.teacher, case.resources.proxy)
    networks = {id(model.network): model.network for model in models if model}
    # Hooks are copied with a network, so that passes of copies are seen as well.
    hooks = [one.register_forward_hook(lambda *_: calls.append(1)) for one in networks.values()]
    try:
        model = case.defend(variant)
        calls.clear()
        [answer] = case.ask(model, case.prompts[:1])
    finally:
        for hook in hooks:
            hook.remove()
    return answer, len(calls)


def it_releases_rows_in_order_and_no_more_than_is_sold(variant: Variant, case: Case) -> None:
    for answer in case.answers(variant):
        if answer.logprobs is None:
            continue
        ids_TK, values_TK = answer.logprobs.ids_TK, answer.logprobs.values_TK
        require(case.interface.kind != "text", "it releases logprobs where text alone is sold")
        require(ids_TK.shape == values_TK.shape, "ids and values differ in shape")
        width = ids_TK.shape[1]
        sold = case.interface.kind == "full" or width <= case.interface.k
        require(sold, f"{width} entries a row, {case.interface.k} are sold")
        rows = len(answer.token_ids) + answer.finished
        require(len(ids_TK) == rows, f"{len(ids_TK)} rows for {rows} tokens and ends")
        ordered = bool((values_TK[:, :-1] >= values_TK[:, 1:]).all())
        require(ordered, "a row is not sorted from the likeliest on")


def it_releases_parts_of_distributions(variant: Variant, case: Case) -> None:
    for answer in case.answers(variant):
        measured = 0 <= answer.l1 <= 2 and answer.kl >= -1e-6 and 0 <= answer.flips <= 1
        require(measured, f"l1 {answer.l1}, kl {answer.kl}, flips {answer.flips}")
        if answer.logprobs is not None:
            _check_rows(answer.logprobs, HEAVIER.get(str(variant), HEAVIER.get(variant.name, 1.0)))


def _check_rows(rows: Logprobs, heaviest: float) -> None:
    ids_TK, values_TK = rows.ids_TK, rows.values_TK
    numbers = not np.isnan(values_TK).any() and bool((values_TK < np.inf).all())
    require(numbers, "a logprob is no number")
    withheld = bool((np.isneginf(values_TK) | (ids_TK >= 0)).all())
    require(withheld, "what is withheld (id -1) has a value")
    once = all(len({*row[row >= 0]}) == (row >= 0).sum() for row in ids_TK)
    require(once, "a token is twice in a row")
    mass = np.exp(values_TK.astype(np.float64)).sum(-1)
    require(bool((mass <= heaviest + 1e-5).all()), f"a row has a mass of {mass.max():g}")


def it_keeps_to_its_budget(variant: Variant, case: Case) -> None:
    budget = BUDGETS.get(variant.name, 1.0) * shown(variant.name).get("eps", 2.0)
    clean, answers = case.answers(), case.answers(variant)
    most = max(answer.l1 for answer in answers)
    require(most <= budget + 1e-4, f"l1 of {most:g}, {budget:g} are allowed")
    if case.build(variant).traits.acts_on != "logprobs" or case.interface.kind != "full":
        return
    for a, b in zip(clean, answers, strict=True):
        assert a.logprobs and b.logprobs
        moved = max(map(distance, tokens(a.logprobs), tokens(b.logprobs)))
        require(moved <= budget + 1e-4, f"a row moved by {moved:g}, {budget:g} are allowed")


def it_wants_scores_if_it_acts_before_the_answer_is_finished(variant: Variant, case: Case) -> None:
    edited = EditedModel(case.teacher, lambda answer: answer)
    if not module(variant.name).Defense.traits.requires_logits:
        case.build(variant)(edited).generate(case.prompts[:1], seed=0, interface=Interface())
        return
    try:
        case.build(variant)(edited)
    except BadInput as error:
        words = (variant.name, "EditedModel", "LanguageModel")
        lacking = [word for word in words if word not in str(error)]
        require(not lacking, f"its error does not say {', '.join(lacking)}: {error}")
    else:
        require(False, "it takes a model without scores; see defenses.with_scores")


CLAIMS = (
    it_keeps_the_order_of_the_prompts,
    it_says_the_same_for_the_same_seed,
    it_answers_alone_as_it_does_in_a_batch,
    it_leaves_the_undefended_model_as_it_was,
    it_is_the_identity_at_its_identity_settings,
    it_keeps_the_likeliest_tokens_if_it_says_so,
    it_keeps_the_final_answer_if_it_says_so,
    it_counts_its_passes,
    it_releases_rows_in_order_and_no_more_than_is_sold,
    it_releases_parts_of_distributions,
    it_keeps_to_its_budget,
    it_wants_scores_if_it_acts_before_the_answer_is_finished,
)
