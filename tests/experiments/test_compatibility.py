"""Each rule of who can meet whom, and what is said where it does not hold."""

from types import SimpleNamespace

import pytest

from distill.completions import BadInput
from experiments.planning import compatibility
from experiments.settings import models, schema

RECORDED = models.Recorded(
    kind="recorded", name="gone", path="gone.jsonl", prompt="prompt", answer="answer"
)
PREFILL = "provider.prefill=true"
WORDS = "judged(by=instruction)"
SERVED = (
    "teacher=served",
    "teacher.url=http://127.0.0.1:9/v1",
    "teacher.model=x",
    "teacher.logprobs=20",
    "teacher.tokenizer=x",
)


def study(*words, teacher=None):
    """What makes a study, when a test needs it."""

    def make():
        made = schema.load("quickstart", ["own=worked", "own.worked=4", *words])
        return made.model_copy(update={"teacher": teacher}) if teacher else made

    return make


def pretrained(name):
    sizes = {"temperature": 0, "top_p": 1, "max_new_tokens": 8, "batch_size": 4}
    return models.Pretrained(kind="pretrained", name=name, path=name, **sizes)


def proxy(vocabulary):
    """What makes a proxy, as `study` a study."""

    def make():
        made = schema.load("quickstart", []).provider.proxy
        return made.model_copy(update={"vocabulary": vocabulary, "name": "small"})

    return make


def embedded():
    return study()().teacher


@pytest.mark.parametrize(
    ("rule", "defense", "attacker", "study"),
    [
        (0, "release/truncate", "logprob_kd", study()),
        (1, "none", "ask/prefill + sft", study("provider.prefill=false")),
        (1, "none", "on_policy", study("provider.prefill=false")),
        (2, "none", "ask/prefill + sft", study(PREFILL, teacher=RECORDED)),
        (3, "decoding/perturbed", "repair/bayes + logprob_kd", study()),
        (4, "none", "on_policy", study(PREFILL, *SERVED)),
        (5, "none", "logprob_kd(released='full')", study(*SERVED)),
        (0, "release/truncate", "judged", study(PREFILL)),
        (1, "none", "judged", study("provider.prefill=false")),
        (2, "none", "judged", study(PREFILL, teacher=RECORDED)),
        (2, "none", WORDS, study(teacher=RECORDED)),
        (4, "none", "judged", study(PREFILL, *SERVED)),
        (None, "none", "judged", study(PREFILL)),
        (None, "release/truncate", WORDS, study("provider.prefill=false", *SERVED)),
        (None, "none", "logprob_kd", study(*SERVED)),
        (None, "release/rounding", "repair/bayes + logprob_kd", study()),
        (None, "release/rounding", "logprob_kd", study()),
        (None, "none", "ask/prefill + sft", study(PREFILL)),
        (None, "release/truncate", "sft", study(teacher=RECORDED)),
        (3, "release/downgrade", "clean/invert_trace(reads=sold) + sft", study()),
        (3, "release/summary(by=model)", "strongest/expand", study()),
        (None, "release/summary", "strongest/expand", study()),
    ],
)
def test_why_an_attack_cannot_be_made(rule, defense, attacker, study):
    why = compatibility.why_not(study(), defense, attacker)
    assert why == (None if rule is None else compatibility.RULES[rule].why)


def test_every_rule_has_a_reason_of_its_own():
    assert len({rule.why for rule in compatibility.RULES}) == len(compatibility.RULES) == 6


@pytest.mark.parametrize(
    ("defense", "attacker", "seen"),
    [
        ("release/rounding", "sft", False),
        ("release/rounding", "logprob_kd", True),
        ("release/truncate", "sft", True),
        ("release/truncate + release/unicode", "sft", True),
        ("none", "sft", True),
    ],
)
def test_who_asks_for_text_sees_no_change_of_logprobs(defense, attacker, seen):
    assert compatibility.has_effect(defense, attacker) is seen


@pytest.mark.parametrize(
    ("teacher", "defense", "wrong"),
    [
        (RECORDED, "decoding/temperature", "needs the teacher's scores"),
        (None, "decoding/lossless", "acts through sampling"),
        (None, "decoding/temperature + decoding/lossless", ""),
        (RECORDED, "release/truncate", ""),
        (None, "none", ""),
    ],
)
def test_a_defence_on_a_teacher(teacher, defense, wrong):
    teacher = teacher or embedded()
    if wrong:
        with pytest.raises(BadInput, match=wrong.replace("(", r"\(").replace(")", r"\)")):
            compatibility.check_defense(teacher, defense)
    else:
        compatibility.check_defense(teacher, defense)


@pytest.mark.parametrize(
    ("study", "attacker", "wrong"),
    [
        (study("student.vocabulary=300"), "logprob_kd", "student.vocabulary must be 0"),
        (study(teacher=RECORDED), "logprob_kd", ""),  # what it has is seen once it is opened
        (study("own.worked=0"), "clean/mix + sft", "own.worked must be above 0"),
        (study("student.vocabulary=300"), "sft", ""),
        (study(), "logprob_kd", ""),
        (study(), WORDS, "teacher 'quick' is trained here .* follows no instruction .*likelihood"),
        (study(teacher=pretrained("a")), WORDS, ""),
        (study(*SERVED), WORDS, ""),
        (study(), "judged", ""),
        (study("student.vocabulary=300"), "judged", ""),  # it scores in the teacher's own tokens
    ],
)
def test_an_attack_in_a_study(study, attacker, wrong):
    if wrong:
        with pytest.raises(BadInput, match=wrong):
            compatibility.check_attacker(study(), attacker)
    else:
        compatibility.check_attacker(study(), attacker)


@pytest.mark.parametrize(
    ("teacher", "small", "same"),
    [
        (embedded, proxy(0), True),
        (embedded, proxy(300), False),
        (embedded, pretrained("a"), False),
        (pretrained("a"), pretrained("a too"), True),
        (pretrained("a"), pretrained("b"), False),
        (pretrained("a"), proxy(0), False),
        (RECORDED, proxy(0), False),
    ],
)
def test_a_proxy_must_spell_as_the_teacher_does(monkeypatch, teacher, small, same):
    teacher, small = (model() if callable(model) else model for model in (teacher, small))
    digests = {"a": "1", "a too": "1", "b": "2"}
    opened = lambda setting, model: SimpleNamespace(vocabulary=digests[model.path])  # noqa: E731
    monkeypatch.setattr(compatibility, "open_model", opened)

    def check(opens=True):
        compatibility.check_tokenizer(teacher, small, "decoding/product_of_experts", opens)

    if same:
        check()
    else:
        words = f"the proxy '{small.name}' has another tokenizer than the teacher '{teacher.name}'"
        with pytest.raises(BadInput, match=words):
            check()
    if isinstance(teacher, models.Pretrained) and isinstance(small, models.Pretrained):
        check(opens=False)  # of a stranger's study no file is opened
