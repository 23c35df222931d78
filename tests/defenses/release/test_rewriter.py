"""What a rewriter is asked, what of it is released, and when an answer is released as it was."""

from __future__ import annotations

from dataclasses import replace

import pytest

from defenses import ProviderResources
from defenses.release import anchors, poison, reformulate, summary
from defenses.release._rewriter import Part, segments
from distill.completions import BadInput, Completion, Interface, Prompt
from experiments.stages.models import StoredModel
from tests.defenses.release.rewriters import DEFENSES, measured
from tests.defenses.release.test_real_texts import recorded
from tests.defenses.release.texts import LETTERS, LINES, SENTENCES, STEPS

SUM = "3+4=7;7+5=12;12*2=24;24-1=23 # 23"


class Rewriter:
    """Writes what a function makes of the reasoning that it is asked about."""

    tokenizer, context, max_new_tokens = LETTERS, 200, 50

    def __init__(self, write):
        self.write, self.prompts = write, []

    def generate(self, prompts, *, seed, interface):
        assert interface == Interface()
        self.prompts += [prompt.text for prompt in prompts]
        return [Completion(p.id, p.text, self.write(p.text), (5,) * 4, passes=2.0) for p in prompts]


def released(module, rewriter, text=SUM, form=STEPS, **settings):
    resources = ProviderResources(rewriter=rewriter, format=form)
    options = module.Settings(by="model", instruction="{reasoning}", **settings)
    answer = Completion("q", "how many?", text, (1, 2))
    (new,) = module.Defense(options, resources)(StoredModel([answer])).generate(
        [Prompt("q", "how many?")], seed=0, interface=Interface()
    )
    return new


def test_each_segment_is_rewritten_and_stands_in_its_place():
    rewriter = Rewriter(lambda text: f" <{text}>\n")
    new = released(reformulate, rewriter, segment=2)
    assert rewriter.prompts == ["3+4=7;7+5=12", "12*2=24;24-1=23"]
    assert new.text == "<3+4=7;7+5=12>;<12*2=24;24-1=23> # 23" and new.token_ids == ()
    # Two calls of 4 tokens and end-of-text, 2 passes each, for an answer of so many characters.
    assert new.passes == 1 + 2 * 2 * 5 / (len(SUM) + 1)


def test_only_a_share_of_the_segments_is_asked_for():
    rewriter = Rewriter(str.upper)
    text = ";".join(f"a{i}={i}" for i in range(40)) + " # 1"
    new = released(reformulate, rewriter, text, segment=1, share=0.5)
    assert 8 <= len(rewriter.prompts) <= 32
    changed = [a != b for a, b in zip(text.split(";"), new.text.split(";"), strict=True)]
    assert sum(changed) == len(rewriter.prompts)


@pytest.mark.parametrize(
    "write",
    [
        lambda text: "  ",
        lambda text: "so # 24",  # another final answer would be read in it
        lambda text: f"{text}\nSure, here it is",  # the instruction again
    ],
    ids=["nothing", "another answer", "the instruction"],
)
@pytest.mark.parametrize("module", [summary, reformulate])
def test_what_cannot_be_used_leaves_the_answer_undefended(module, write):
    text = SUM.removesuffix(" # 23") if " # 24" in write("") else SUM
    new = released(module, Rewriter(write), text)
    assert new.text == text and new.token_ids == () and new.passes > 1


def test_what_was_cut_off_is_not_released():
    class Cut(Rewriter):
        def generate(self, prompts, *, seed, interface):
            written = super().generate(prompts, seed=seed, interface=interface)
            return [replace(one, finished="12*2" not in one.prompt) for one in written]

    framed = Cut(lambda text: f"<{text}>")
    assert released(reformulate, framed, segment=2).text == SUM
    assert released(reformulate, framed, "3+4=7 # 7").text == "<3+4=7> # 7"


def test_one_segment_that_cannot_be_used_leaves_all_of_the_answer():
    rewriter = Rewriter(lambda text: "" if "12*2" in text else "short")
    assert released(reformulate, rewriter, segment=2).text == SUM


def test_what_does_not_fit_the_rewriter_is_not_asked_for():
    rewriter = Rewriter(str.upper)
    long = "a" * 151 + " # 1"
    assert released(summary, rewriter, long).text == long and not rewriter.prompts
    assert released(summary, rewriter, "a" * 150 + " # 1").text == "A" * 150 + " # 1"


def test_a_network_whose_context_is_too_short_is_not_asked_either(teacher):
    """By default an instruction has more letters than this one reads."""
    resources = ProviderResources(rewriter=teacher, format=STEPS)
    answer = Completion("q", "3+4=", "3+4=7 # 7", (1, 2))
    model = summary.Defense(summary.Settings(by="model"), resources)(StoredModel([answer]))
    (new,) = model.generate([answer.question], seed=0, interface=Interface())
    assert (new.text, new.passes) == (answer.text, 1)


def test_an_answer_without_reasoning_is_left_alone():
    rewriter = Rewriter(str.upper)
    assert released(summary, rewriter, "# 23").text == "# 23" and not rewriter.prompts


@pytest.mark.parametrize(("form", "joined"), [(LINES, "\n"), (SENTENCES, " "), (STEPS, ";")])
def test_segments_joined_are_the_reasoning(form, joined):
    steps = ["It is 2.", "So 4.", "Then 5."]
    text = joined.join(steps) + form.answer("5")
    parts = segments(form, 2)(Completion("a", "q", text))
    assert parts == [Part(joined.join(steps[:2]), joined), Part(steps[2], "")]


def test_a_rewriter_poisons_reasoning_and_the_final_answer_stays():
    rewriter = Rewriter(lambda text: text.replace("7", "8"))
    new = released(poison, rewriter, p=1.0, where="reasoning")
    assert new.text == "3+4=8;8+5=12;12*2=24;24-1=23 # 23" and rewriter.prompts == [SUM[:-5]]
    both = released(poison, rewriter, p=1.0, where="both").text
    assert both.startswith(new.text[:-2]) and both[-2:] != "23"
    assert poison.Defense(poison.Settings(by="model")).traits.needs == ()


def test_anchors_alone_are_rewritten():
    rewriter = Rewriter(lambda text: "3+4=9")
    new = released(anchors, rewriter, share=0.25)
    assert rewriter.prompts == ["3+4=7"] and new.text == "3+4=9;7+5=12;12*2=24;24-1=23 # 23"


@pytest.mark.parametrize("module", [summary, reformulate, anchors])
def test_without_a_rewriter_it_says_so(module):
    defense = module.Defense(module.Settings(by="model"))
    assert "rewriter" in defense.traits.needs
    with pytest.raises(BadInput, match=r"release/\w+: by model needs a rewriter"):
        defense(StoredModel([]))


@pytest.mark.parametrize("entry", DEFENSES)
def test_a_rewriter_is_measured_on_recorded_answers(entry):
    """One that writes the same to all, one that writes nothing, and one that adds an answer; one of
    the six has no reasoning.
    """
    texts = [*recorded()[:3], *recorded()[-3:]]
    for write, most in ((lambda _: "So it is.", 5), (lambda _: "", 0)):
        rewriter = Rewriter(write)
        rewriter.context = 10_000
        got = measured(entry, rewriter, texts)
        assert (got.rewritten, got.unchanged) == (most, 6)
        assert (got.words[0] == got.words[1]) == (most == 0)
    rewriter = Rewriter(lambda _: "<answer>0</answer>\nA: 0\n")
    rewriter.context = 10_000
    assert measured(entry, rewriter, texts).unchanged == 6
