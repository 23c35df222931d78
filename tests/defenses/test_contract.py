"""What every defence keeps, whatever it does; configs and files are found here, so a new defence
edits nothing.
"""

from __future__ import annotations

import importlib
from dataclasses import fields, replace
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args, get_origin

import numpy as np
import pytest
import yaml

from defenses import ProviderResources
from distill.completions import BadInput, Completion, Interface, Logprobs
from distill.models import EditedModel

ROOT = Path(__file__).parents[2]
CONFIGS = ROOT / "configs" / "defense"
NAMES = sorted(str(path.relative_to(CONFIGS).with_suffix("")) for path in CONFIGS.rglob("*.yaml"))
CASES = [
    ("characters", Interface()),
    ("characters", Interface("top_k", 4)),
    ("characters", Interface("full")),
    ("greedy", Interface("top_k", 4)),
    ("llama", Interface("top_k", 20)),
    ("gpt2", Interface("top_k", 20)),
]
OTHERWISE = [
    ("characters", Interface("full")),
    ("llama", Interface("top_k", 20)),
]  # for settings other than the config's
QUICK = {
    "steps": 4,
    "rounds": 1,
    "samples": 2,
}  # what is learned need not be learned well to keep a contract
SEED = 3
HEAVIER = {
    "release/rounding": np.exp(0.05)
}  # mass of a row: rounding to 1 decimal does not renormalise, see there
BUDGETS = {"decoding/perturbed": 2.0}  # L1 that a setting `eps` allows, where it is not eps itself


def files() -> list[str]:
    """Every selectable defence file; accounts are limited in access/, which maps no model to a
    model.
    """
    found = (
        path.relative_to(ROOT / "defenses").with_suffix("")
        for path in (ROOT / "defenses").rglob("*.py")
    )
    return sorted(
        str(path) for path in found if not path.name.startswith("_") and path.parts[0] != "access"
    )


def module(name: str) -> Any:
    return importlib.import_module("defenses." + name.replace("/", "."))


def shown(name: str) -> dict[str, Any]:
    """The settings of a defence's config."""
    return dict(yaml.safe_load((CONFIGS / f"{name}.yaml").read_text())["settings"])


class Entry(NamedTuple):
    """A defence with the settings of its config but for some."""

    name: str
    changes: dict[str, Any] = {}

    def __str__(self) -> str:
        return self.name + "".join(f"({field}={value})" for field, value in self.changes.items())


def choices(name: str) -> list[Entry]:
    """The defence with every other choice that its settings have; rewriters, which tiny ones are
    not, aside.
    """
    found = []
    for field, info in module(name).Settings.model_fields.items():
        options = get_args(info.annotation) if get_origin(info.annotation) is Literal else ()
        options = (False, True) if info.annotation is bool else options
        found += [
            Entry(name, {field: option}) for option in options if option != shown(name)[field]
        ]
    settings = [module(name).Settings(**shown(name) | one.changes) for one in found]
    return [
        one
        for one, s in zip(found, settings, strict=True)
        if "rewriter" not in module(name).Defense(s).needs
    ]


class Case:
    """A teacher and what is seen of it; what a defence learned and what it said are kept, so that
    both are had once.
    """

    def __init__(self, world: Any, interface: Interface) -> None:
        self.teacher, self.given, self.prompts, self.interface = *world, interface
        self.before = self.weights()
        self._learned: dict[str, Any] = {}
        self._said: dict[str, list[Completion]] = {}

    def weights(self) -> list[Any]:
        """Those of the teacher and of what its provider has."""
        networks = [self.teacher.network, self.given.proxy.network, self.given.rewriter.network]
        return [value.clone() for network in networks for value in network.state_dict().values()]

    def build(self, entry: Entry, **changes: object) -> Any:
        """The defence of an entry, which has learned what it has to."""
        settings, kind = shown(entry.name), module(entry.name)
        quick = {field: value for field, value in QUICK.items() if field in settings}
        checked = kind.Settings(**(settings | quick | entry.changes | changes))
        defense = kind.Defense(checked, self.given)
        if not defense.learns:
            return defense
        key = f"{entry.name} {checked!r}"
        if key not in self._learned:
            self._learned[key] = defense.learn(self.teacher)
        return kind.Defense(checked, replace(self.given, learned=self._learned[key]))

    def defended(self, entry: Entry, **changes: object) -> Any:
        """The teacher with that defence; one that cannot be for greedy teachers has no contract to
        keep there.
        """
        try:
            return self.build(entry, **changes)(self.teacher)
        except BadInput as error:
            if self.teacher.temperature == 0 and "temperature 0" in str(error):
                pytest.skip(str(error))
            raise

    def ask(self, model: Any, prompts: Any = None) -> list[Completion]:
        answers: list[Completion] = model.generate(
            prompts or self.prompts, seed=SEED, interface=self.interface
        )
        return answers

    def said(self, entry: Entry | None = None) -> list[Completion]:
        """What the undefended teacher, or it with a defence, answers to all prompts."""
        if str(entry) not in self._said:
            self._said[str(entry)] = self.ask(self.defended(entry) if entry else self.teacher)
        return self._said[str(entry)]


@pytest.fixture(scope="session")
def case(request, worlds) -> Case:
    world, interface = request.param
    return Case(worlds[world], interface)


def same(left: list[Completion], right: list[Completion], *, exact: bool = True) -> bool:
    """Equal in every field; numbers to 1e-4 if not exact, as the width of a batch moves a network's
    last bits.
    """

    def alike(a: Logprobs, b: Logprobs) -> bool:
        if exact:
            return np.array_equal(a.ids_TK, b.ids_TK) and np.array_equal(a.values_TK, b.values_TK)
        return len(a.ids_TK) == len(b.ids_TK) and all(map(near, tokens(a), tokens(b)))

    def pair(a: Completion, b: Completion) -> bool:
        texts = [(x.prompt_id, x.prompt, x.text, x.token_ids, x.finished, x.passes) for x in (a, b)]
        if texts[0] != texts[1] or (a.logprobs is None) != (b.logprobs is None):
            return False
        moved = [(x.l1, x.kl, x.flips) for x in (a, b)]
        if not np.allclose(*moved, rtol=0, atol=0 if exact else 1e-4):
            return False
        return a.logprobs is None or b.logprobs is None or alike(a.logprobs, b.logprobs)

    return len(left) == len(right) and all(map(pair, left, right))


def tokens(rows: Logprobs) -> list[dict[int, float]]:
    """Each row as its tokens' logprobs; withheld entries are none."""
    each = zip(rows.ids_TK, rows.values_TK, strict=True)
    return [{int(i): float(v) for i, v in zip(*row, strict=True) if i >= 0} for row in each]


def near(a: dict[int, float], b: dict[int, float]) -> bool:
    """Logprobs to 1e-4, or probabilities to 1e-6: what an edit leaves of a token may be the
    rounding of another.
    """
    pairs = np.array([(a.get(i, -np.inf), b.get(i, -np.inf)) for i in a.keys() | b.keys()])
    with np.errstate(invalid="ignore"):  # -inf less -inf
        apart = np.abs(pairs[:, 0] - pairs[:, 1])
    return bool(
        ((apart <= 1e-4) | (np.abs(np.exp(pairs[:, 0]) - np.exp(pairs[:, 1])) <= 1e-6)).all()
    )


def distance(clean: dict[int, float], released: dict[int, float]) -> float:
    """L1 over the tokens that were released, and all others as one."""
    apart = [np.exp(released[i]) - np.exp(clean.get(i, -np.inf)) for i in released]
    return float(np.abs(apart).sum() + abs(sum(apart)))


@pytest.mark.parametrize(
    "case", [(world, Interface()) for world in ("characters", "llama", "gpt2")], indirect=True
)
def test_the_tiny_teachers_look_at_their_prompts(case):
    assert len({answer.text for answer in case.said()}) == len(case.prompts)


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
    assert (
        defense.passes >= 0
        and isinstance(defense.keeps_argmax, bool)
        and isinstance(defense.scores, bool)
    )
    assert set(defense.needs) <= {field.name for field in fields(ProviderResources)} - {"learned"}
    assert set(defense.identity) <= set(settings.model_fields)
    assert defense.identity or not settings.model_fields, (
        "a defence with settings has some that make it the identity"
    )
    assert name == "none" or defense.paper != "-"


@pytest.mark.parametrize("name", NAMES)
def test_a_knob_goes_from_no_defence_to_its_strongest(name):
    knob = module(name).Defense.knob
    if knob is None:
        return
    assert knob.name in module(name).Settings.model_fields
    settings = shown(name)
    whole = isinstance(settings[knob.name], int)
    for share in (0.0, 0.5, 1.0):
        module(name).Settings(
            **settings | {knob.name: round(knob.at(share)) if whole else knob.at(share)}
        )
    off = module(name).Settings(
        **settings | {knob.name: knob.identity} | module(name).Defense.identity
    )
    assert module(name).Defense(off).off


CONTRACTS = [(Entry(name), case) for name in NAMES for case in CASES]
CONTRACTS += [(entry, case) for name in NAMES for entry in choices(name) for case in OTHERWISE]


@pytest.mark.parametrize(
    ("entry", "case"),
    CONTRACTS,
    ids=[f"{entry}-{world}-{seen.kind}" for entry, (world, seen) in CONTRACTS],
    indirect=["case"],
)
class TestEveryDefence:
    def test_keeps_the_order_of_the_prompts(self, entry, case):
        forward = case.said(entry)
        assert [(answer.prompt_id, answer.prompt) for answer in forward] == [
            (p.id, p.text) for p in case.prompts
        ]
        backward = case.ask(case.defended(entry), case.prompts[::-1])
        assert same(forward[::-1], backward, exact=False)

    def test_says_the_same_for_the_same_seed(self, entry, case):
        assert same(case.said(entry), case.ask(case.defended(entry)))

    def test_answers_alone_as_it_does_in_a_batch(self, entry, case):
        model, together = case.defended(entry), case.said(entry)
        for i in (0, len(case.prompts) - 1):
            assert same(case.ask(model, [case.prompts[i]]), [together[i]], exact=False)

    def test_leaves_the_undefended_model_as_it_was(self, entry, case):
        clean, _ = case.said(), case.said(entry)
        assert same(clean, case.ask(case.teacher))
        assert all((a == b).all() for a, b in zip(case.before, case.weights(), strict=True))

    def test_is_the_identity_at_its_identity_settings(self, entry, case):
        model = case.defended(entry, **module(entry.name).Defense.identity)
        assert same(case.said(), case.ask(model))

    def test_keeps_the_most_likely_tokens_if_it_says_so(self, entry, case):
        if not case.build(entry).keeps_argmax or case.interface.kind == "text":
            return
        for a, b in zip(case.said(), case.said(entry), strict=True):
            # Where the two texts part, what comes before is no longer the same.
            alike = 1
            while alike < len(a.logprobs.ids_TK) and a.token_ids[:alike] == b.token_ids[:alike]:
                alike += 1
            assert (a.logprobs.ids_TK[:alike, 0] == b.logprobs.ids_TK[:alike, 0]).all()

    def test_counts_its_passes(self, entry, case):
        defense = case.build(entry)
        assert all(
            answer.passes == case.teacher.passes + defense.passes for answer in case.said(entry)
        )
        calls, networks = (
            [],
            {id(one.network): one.network for one in (case.teacher, case.given.proxy)},
        )
        # Hooks are copied with a network, so that passes of copies are seen as well.
        hooks = [one.register_forward_hook(lambda *_: calls.append(1)) for one in networks.values()]
        try:
            model = case.defended(entry)
            calls.clear()
            [answer] = case.ask(model, case.prompts[:1])
        finally:
            for hook in hooks:
                hook.remove()
        told = (
            case.said()[0] if defense.point == "text" else answer
        )  # text that was edited has no tokens any more
        steps = len(told.token_ids) + told.finished
        assert steps <= len(calls) <= answer.passes * steps, (
            "a dual pass is one call and counts as more"
        )

    def test_releases_rows_in_order_and_no_more_than_the_profile_allows(self, entry, case):
        for answer in case.said(entry):
            if answer.logprobs is not None:
                ids_TK, values_TK = answer.logprobs.ids_TK, answer.logprobs.values_TK
                assert case.interface.kind != "text" and ids_TK.shape == values_TK.shape
                assert case.interface.kind == "full" or ids_TK.shape[1] <= case.interface.k
                assert len(ids_TK) == len(answer.token_ids) + answer.finished
                assert (values_TK[:, :-1] >= values_TK[:, 1:]).all()

    def test_releases_parts_of_distributions(self, entry, case):
        for answer in case.said(entry):
            assert 0 <= answer.l1 <= 2 and answer.kl >= -1e-6 and 0 <= answer.flips <= 1
            if answer.logprobs is not None:
                ids_TK, values_TK = answer.logprobs.ids_TK, answer.logprobs.values_TK
                assert not np.isnan(values_TK).any() and (values_TK < np.inf).all()
                assert (np.isneginf(values_TK) | (ids_TK >= 0)).all(), (
                    "what is withheld has no value"
                )
                assert all(len({*row[row >= 0]}) == (row >= 0).sum() for row in ids_TK), (
                    "no token is there twice"
                )
                assert (
                    np.exp(values_TK.astype(np.float64)).sum(-1)
                    <= HEAVIER.get(entry.name, 1.0) + 1e-5
                ).all()

    def test_keeps_to_its_budget(self, entry, case):
        budget = BUDGETS.get(entry.name, 1.0) * shown(entry.name).get("eps", 2.0)
        clean, answers = case.said(), case.said(entry)
        assert all(answer.l1 <= budget + 1e-4 for answer in answers)
        if case.build(entry).point == "logprobs" and case.interface.kind == "full":
            for a, b in zip(clean, answers, strict=True):
                assert max(map(distance, tokens(a.logprobs), tokens(b.logprobs))) <= budget + 1e-4

    def test_wants_scores_if_it_acts_before_the_answer_is_finished(self, entry, case):
        wrapped = EditedModel(case.teacher, lambda answer: answer)
        if module(entry.name).Defense.scores:
            with pytest.raises(BadInput, match=f"{entry.name}.*EditedModel.*LanguageModel"):
                case.build(entry)(wrapped)
        else:
            assert case.build(entry)(wrapped).generate(
                case.prompts[:1], seed=0, interface=Interface()
            )
