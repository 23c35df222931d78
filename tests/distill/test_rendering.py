"""What a student is trained on, what it is asked and what it is scored on are the same tokens."""

import threading
from dataclasses import replace

import pytest
import torch
from tokenizers.processors import TemplateProcessing

from defenses.trained import rows
from distill.attackers import logprob_kd, sft
from distill.completions import (
    BadInput,
    Completion,
    Interface,
    Logprobs,
    Message,
    Prompt,
    read_completions,
    write_completions,
)
from distill.embedded import character_tokenizer, llama
from distill.models import LanguageModel, own_randomness
from distill.recordings import RecordedModel, by_question
from distill.rendering import prompt_ids, within
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
    answer = Completion(PROMPT.id, PROMPT.text, SAID, tuple(spelled(SAID)))
    model.generate([PROMPT], seed=0, interface=Interface())
    prompted = read[0]
    read.clear()
    model.surprisal([PROMPT], [SAID])
    scored = read[0]
    read.clear()
    recipe = TrainingConfig(max_length=64, steps=1, batch_size=1)
    sft.Attacker(sft.Settings()).train([answer], model, recipe, seed=0)
    trained = read[0]

    assert prompt_ids(made, PROMPT) == prompted == expected
    assert scored == trained == [*expected, *spelled(SAID), 1]


@pytest.mark.parametrize("made, expected", KINDS.values(), ids=KINDS)
def test_every_example_has_the_prompt_as_it_is_asked(made, expected):
    network = llama(made, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=0)
    rows_T1 = torch.zeros(len(SAID) + 1, 1).numpy()
    answer = Completion(
        PROMPT.id,
        PROMPT.text,
        SAID,
        tuple(spelled(SAID)),
        logprobs=Logprobs(rows_T1.astype("i4"), rows_T1),
    )
    examples = [
        sft.example(answer, made, 64),
        logprob_kd.example(answer, made),
        *rows(LanguageModel(network, made, max_new_tokens=4), [answer]),
    ]
    assert [one.prompt_ids for one in examples] == [expected] * 3
    assert [one.answer_ids for one in examples] == [[*spelled(SAID), 1]] * 3


LETTERS = [*spelled("<e"), 2, 2, *spelled(">")]  # of "<end>": it knows neither n nor d
TURN = "{% for m in messages %}<{{ m.role }}>{{ m.content }}<end>{% endfor %}<>"


@pytest.mark.parametrize(
    "template, prompt, expected",
    [
        (None, Prompt("a", "1<end>"), [*spelled("1"), *LETTERS]),
        (TURN, Prompt("a", "1<end>"), [*spelled("<user>1"), *LETTERS, 1, *spelled("<>")]),
        (
            TURN,
            Prompt("a", "1", system="<end>", history=(Message("user", "2<end>"),)),
            [
                *[
                    3 + sorted({*ALPHABET}).index(one) if one in ALPHABET else 2
                    for one in "<system>"
                ],
                *LETTERS,
                1,
                *spelled("<user>2"),
                *LETTERS,
                1,
                *spelled("<user>1"),
                1,
                *spelled("<>"),
            ],
        ),
    ],
)
def test_what_is_said_never_becomes_a_control_token(template, prompt, expected):
    assert prompt_ids(tokenizer(template=template), prompt) == expected
    example = sft.example(Completion("a", "1", "2<end>"), tokenizer(), 64)
    assert example.answer_ids == [*spelled("2"), *LETTERS, 1]


TURNS = (Message("user", "1"), Message("assistant", "2"))
CONVERSATIONS = {
    "system": (replace(PROMPT, system="0"), "<system>0<user>1+2=<>"),
    "history": (replace(PROMPT, history=TURNS), "<user>1<assistant>2<user>1+2=<>"),
    "both": (
        replace(PROMPT, system="0", history=TURNS),
        "<system>0<user>1<assistant>2<user>1+2=<>",
    ),
}


@pytest.mark.parametrize("prompt, written", CONVERSATIONS.values(), ids=CONVERSATIONS)
def test_what_stands_before_a_prompt_is_asked_learned_and_recorded(prompt, written, tmp_path):
    alphabet = "".join(sorted({*ALPHABET, *"systemantuser"}))
    made = character_tokenizer(alphabet)
    made.chat_template = TEMPLATE
    network = llama(made, hidden_size=16, num_layers=1, num_heads=2, max_length=64, seed=0)
    model = LanguageModel(network, made, max_new_tokens=4)
    expected = [made.convert_tokens_to_ids(letter) for letter in written]
    (answer,) = model.generate([prompt], seed=0, interface=Interface())
    write_completions(tmp_path / "a.parquet", [answer, Completion("b", "1", "2")])
    (read, bare) = read_completions(tmp_path / "a.parquet")

    assert model.encode(prompt) == expected
    assert sft.example(answer, made, 64).prompt_ids == expected
    assert read == answer and read.question == prompt
    assert bare == Completion("b", "1", "2")
    recording = RecordedModel(by_question([answer]))
    assert recording.generate([replace(prompt, id="c")], seed=0, interface=Interface()) == [
        replace(answer, prompt_id="c")
    ]
    with pytest.raises(BadInput, match="no answer to 1 prompts|another system prompt"):
        recording.generate([replace(PROMPT, system="9")], seed=0, interface=Interface())


def test_conversations_are_told_apart_and_bare_prompts_keep_their_randomness():
    prompts = [PROMPT, *(prompt for prompt, _ in CONVERSATIONS.values())]
    keys = own_randomness(prompts, 3)
    assert len({*keys}) == len(keys)
    # SHA-256 of "1+2=", by another program: printf 1+2= | sha256sum
    digest = "f982bc51c1585df3a37e4e7cd1bd2d2131b329c5c9a417c38f200ecf6c1737cb"
    assert keys[0] == f"3/{digest}"


@pytest.mark.parametrize("lots", ["{{ range(99999) | random }}", "{{ lipsum(n=1) }}"])
def test_a_template_that_draws_lots_writes_the_same_prompt_each_time(lots):
    made = tokenizer(template=TEMPLATE + lots)
    assert prompt_ids(made, PROMPT) == prompt_ids(made, PROMPT)


@pytest.mark.parametrize(
    "template, prompt, message",
    [
        (None, CONVERSATIONS["both"][0], "has a system prompt and earlier turns, and .* no chat"),
        (None, CONVERSATIONS["history"][0], "has earlier turns, and .* no chat template"),
        (
            "{{ messages[-1].content }}",
            CONVERSATIONS["system"][0],
            "chat template: leaves the system prompt out",
        ),
        ("{{ messages[0].role }}", PROMPT, "chat template: leaves the question out"),
        (
            "{{ messages[-1].content }}",
            replace(PROMPT, history=(Message("user", "8+8="), Message("assistant", "# 16"))),
            "chat template: leaves the question before out",
        ),
        (TEMPLATE + "{% if 7 ** 99999999 %}{% endif %}", PROMPT, "chat template: raises numbers"),
    ],
)
def test_what_cannot_be_written_before_a_prompt_is_one_line(template, prompt, message):
    with pytest.raises(BadInput, match=f"prompt 'a': {message}"):
        prompt_ids(tokenizer(template=template), prompt)


def test_what_is_late_is_ended():
    """A template's loops would keep a core busy as long as the process lives."""
    late: list[threading.Thread] = []

    def endless():
        late.append(threading.current_thread())
        while True:
            pass

    with pytest.raises(TimeoutError, match="took over 0.05 s"):
        within(0.05, endless)
    late[0].join(60)
    assert not late[0].is_alive()
    assert within(60, lambda: 3) == 3
