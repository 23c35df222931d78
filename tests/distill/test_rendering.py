"""What a student is trained on, what it is asked and what it is scored on are the same tokens."""

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from defenses.trained import rows
from distill.attackers import logprob_kd, sft
from distill.completions import Completion, Interface, Logprobs, Prompt
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel
from distill.rendering import prompt_ids
from distill.specs import TrainingConfig

ALPHABET = "0123456789+=#<>user "
PROMPT, SAID = Prompt("a", "1+2="), "3 # 3"
TEMPLATE = (
    "{% for m in messages %}<{{ m.role }}>{{ m.content }}{% endfor %}"
    "{% if add_generation_prompt %}<>{% endif %}"
)
BEGIN = 2  # the unknown token, which no text here spells, stands for begin-of-text


def tokenizer(around="$A", template=None):
    """A character tokenizer that writes special tokens `around` a text, `$A`."""
    made = character_tokenizer(ALPHABET)
    made.chat_template = template
    made.backend_tokenizer.post_processor = TemplateProcessing(
        single=around, special_tokens=[("<unk>", BEGIN), ("<end>", 1)]
    )
    return made


def spelled(text):
    return [3 + sorted(set(ALPHABET)).index(letter) for letter in text]


KINDS = {
    "bare": (tokenizer(), spelled("1+2=")),
    "begin": (tokenizer("<unk> $A"), [BEGIN, *spelled("1+2=")]),
    "begin and end": (tokenizer("<unk> $A <end>"), [BEGIN, *spelled("1+2=")]),
    "template": (tokenizer(template=TEMPLATE), spelled("<user>1+2=<>")),
    "template, and a begin that it does not write": (
        tokenizer("<unk> $A", TEMPLATE),
        spelled("<user>1+2=<>"),
    ),
}


@pytest.mark.parametrize("made, expected", KINDS.values(), ids=KINDS)
def test_asking_training_and_scoring_read_the_same_tokens(made, expected):
    network = llama(
        made, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=0, init=0.5
    )
    model, read = LanguageModel(network, made, max_new_tokens=4), []
    network.get_input_embeddings().register_forward_hook(
        lambda module, inputs, output: read.append(inputs[0][0].tolist())
    )
    said = Completion(PROMPT.id, PROMPT.text, SAID, tuple(spelled(SAID)))
    model.generate([PROMPT], seed=0, interface=Interface())
    asked = read[0]
    read.clear()
    model.surprisal([PROMPT], [SAID])
    scored = read[0]
    read.clear()
    recipe = TrainingConfig(max_length=64, steps=1, batch_size=1)
    sft.Attacker(sft.Settings()).train([said], model, recipe, seed=0)
    trained = read[0]

    assert prompt_ids(made, PROMPT) == asked == expected
    assert scored == trained == [*expected, *spelled(SAID), 1]


@pytest.mark.parametrize("made, expected", KINDS.values(), ids=KINDS)
def test_every_example_has_the_prompt_as_it_is_asked(made, expected):
    network = llama(made, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=0)
    rows_T1 = torch.zeros(len(SAID) + 1, 1).numpy()
    said = Completion(
        PROMPT.id,
        PROMPT.text,
        SAID,
        tuple(spelled(SAID)),
        logprobs=Logprobs(rows_T1.astype("i4"), rows_T1),
    )
    examples = [
        sft.example(said, made, 64),
        logprob_kd.example(said, made),
        *rows(LanguageModel(network, made, max_new_tokens=4), [said]),
    ]
    assert [one.prompt_ids for one in examples] == [expected] * 3
    assert [one.answer_ids for one in examples] == [[*spelled(SAID), 1]] * 3


def test_a_prompt_that_spells_the_end_keeps_it():
    assert prompt_ids(tokenizer(), Prompt("a", "1<end>")) == [*spelled("1"), 1]
