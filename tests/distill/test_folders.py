"""Models in folders: what is whole loads as it was saved, and whatever else is there
is one line.
"""

import json
import pickle
import shutil
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from distill import rendering
from distill.completions import BadInput, Interface, Prompt
from distill.embedded import byte_pair_tokenizer, llama
from distill.folders import load, tokenizer_digest
from distill.specs import PretrainedModel

HARM = str(Path(tempfile.gettempdir()) / "harm-was-done")
UP = "model.layers.1.mlp.up_proj.weight"


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole")
    tokenizer = byte_pair_tokenizer(["1+1= 2", "3+4= 7"] * 9, 280)
    llama(
        tokenizer, hidden_size=8, num_layers=2, num_heads=2, max_length=128, seed=0
    ).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def folder(whole, tmp_path):
    return Path(shutil.copytree(whole, tmp_path / "model"))


def config(**changes):
    return lambda folder: rewrite(folder / "config.json", changes)


def spelled(**changes):
    return lambda folder: rewrite(folder / "tokenizer_config.json", changes)


def rewrite(path, changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def file(name, data):
    return lambda folder: (folder / name).write_bytes(data)


def cut(name, size):
    return lambda folder: (folder / name).write_bytes((folder / name).read_bytes()[:size])


def weights(change):
    def changed(folder):
        tensors = load_file(folder / "model.safetensors")
        change(tensors)
        save_file(tensors, folder / "model.safetensors", {"format": "pt"})

    return changed


def template(text):
    return file("chat_template.jinja", text.encode())


class Harm:
    def __reduce__(self):
        return open, (HARM, "w")


def pickled(content):
    def changed(folder):
        (folder / "model.safetensors").unlink()
        (folder / "pytorch_model.bin").write_bytes(pickle.dumps(content))

    return changed


def own_code(name, **more):
    def changed(folder):
        (folder / "theirs.py").write_text(f"open({HARM!r}, 'w')\nclass C: pass\n")
        rewrite(folder / name, more)

    return changed


HUGE = 10**9
BROKEN = {
    "no layers": (config(num_hidden_layers=0), "num_hidden_layers of at least 1, got 0"),
    "a negative number of layers": (
        config(num_hidden_layers=-1),
        "num_hidden_layers of at least 1, got -1",
    ),
    "layers as a word": (config(num_hidden_layers="two"), ""),
    "a layer more in the config": (
        config(num_hidden_layers=3),
        "lacks 9 weights, first model.layers.2",
    ),
    "a layer less in the config": (
        config(num_hidden_layers=1),
        "more than its config.json says 9 weights",
    ),
    "layers without end": (
        config(num_hidden_layers=HUGE),
        f"asks for {HUGE} layers, its files hold 20 tensors",
    ),
    "a width without end": (config(hidden_size=10**7, head_dim=4), "weights, its files hold"),
    "MLPs without end": (config(intermediate_size=10**12), ""),
    "tokens without end": (config(vocab_size=10**10), ""),
    "a context of no length": (
        config(max_position_embeddings=0),
        "max_position_embeddings of at least 1, got 0",
    ),
    "no context": (config(max_position_embeddings=None), ""),
    "no heads": (config(num_attention_heads=0), "ZeroDivisionError"),
    "another width": (config(hidden_size=16), "in other shapes than its config.json says"),
    "fewer rows than tokens": (config(vocab_size=100), "in other shapes"),
    "an unknown kind": (config(model_type="nothing"), "nothing"),
    "an unknown activation": (config(hidden_act="nothing"), "KeyError"),
    "a config that is a list": (file("config.json", b"[]"), ""),
    "an empty config": (file("config.json", b""), ""),
    "a config of nothing": (file("config.json", b"{}"), "Unrecognized model"),
    "a config without bottom": (file("config.json", b'{"a":' * 100_000), "RecursionError"),
    "a config in Latin-1": (file("config.json", b'{"a": "\xe9"}'), ""),
    "no config": (lambda folder: (folder / "config.json").unlink(), ""),
    "no weights": (lambda folder: (folder / "model.safetensors").unlink(), "model.safetensors"),
    "empty weights": (file("model.safetensors", b""), "SafetensorError"),
    "weights cut in their head": (cut("model.safetensors", 200), "SafetensorError"),
    "weights cut in their middle": (cut("model.safetensors", 10_000), "SafetensorError"),
    "weights that are text": (
        file("model.safetensors", b"version https://git-lfs.github.com/spec/v1"),
        "",
    ),
    "a weight less": (weights(lambda held: held.pop(UP)), f"lacks 1 weights, first {UP}"),
    "a weight of another shape": (
        weights(lambda held: held.update({UP: torch.ones(3)})),
        f"first {UP}",
    ),
    "a layer more in the weights": (
        weights(lambda held: held.update({UP.replace("1", "2"): torch.ones(21, 8)})),
        "more than its config.json says 1 weights",
    ),
    "NaN in a weight": (
        weights(lambda held: held[UP][0, 0].fill_(torch.nan)),
        "not finite numbers",
    ),
    "infinity in a weight": (
        weights(lambda held: held["model.norm.weight"].fill_(torch.inf)),
        "not finite numbers",
    ),
    "pickled weights": (pickled({}), "no file named model.safetensors"),
    "own code of a model": (
        own_code(
            "config.json",
            model_type="theirs",
            auto_map={"AutoConfig": "theirs.C", "AutoModelForCausalLM": "theirs.C"},
        ),
        "custom code",
    ),
    "own code of a tokenizer": (
        own_code(
            "tokenizer_config.json",
            tokenizer_class="Theirs",
            auto_map={"AutoTokenizer": ["theirs.C", None]},
        ),
        "custom code",
    ),
    "an empty tokenizer": (file("tokenizer.json", b"{}"), "KeyError: 'added_tokens'"),
    "a tokenizer that is a list": (file("tokenizer.json", b"[]"), ""),
    "a tokenizer without bottom": (file("tokenizer.json", b"[" * 200_000), "RecursionError"),
    "a cut tokenizer": (cut("tokenizer.json", 2_000), ""),
    "tokenizer settings that are a list": (file("tokenizer_config.json", b"[]"), "AttributeError"),
    "no end-of-text token": (file("tokenizer_config.json", b"{}"), "names no end-of-text token"),
    "an end-of-text token beyond them": (
        spelled(eos_token="<another>"),
        "has 261 tokens, its network rows for 260",
    ),
    "a template that is no template": (template("{% for %}"), "chat template: TemplateSyntaxError"),
    "an end that is no token": (
        lambda folder: rewrite(folder / "generation_config.json", {"eos_token_id": ""}),
        "eos_token_id: must be the numbers of tokens (got '')",
    ),
    "a template that errs": (
        template("{{ messages[7].content }}"),
        "chat template: UndefinedError",
    ),
    "a template that refuses": (
        template("{{ raise_exception('no\nusers') }}"),
        "TemplateError: no users",
    ),
    "a template that reaches out": (
        template("{{ ''.__class__.__mro__[1].__subclasses__() }}"),
        "SecurityError",
    ),
    "a template that divides by zero": (
        template("{{ 1 / 0 }}"),
        "chat template: ZeroDivisionError",
    ),
    "a template that never ends": (
        template(
            "{% for a in range(3000) %}{% for b in range(3000) %}{{ '' }}{% endfor %}{% endfor %}"
        ),
        "chat template: TimeoutError: took over 0.2 s",
    ),
    "a template of a book": (
        template("{{ 'x' * 200000 }}"),
        "writes 200000 letters around a prompt of 1",
    ),
}


@pytest.mark.parametrize("fault", BROKEN)
def test_a_broken_folder_is_one_line_and_soon(fault, folder, monkeypatch, capfd):
    change, message = BROKEN[fault]
    change(folder)
    monkeypatch.setattr(rendering, "TEMPLATE_SECONDS", 0.2 if "never ends" in fault else 60)
    monkeypatch.setattr("sys.stdin", None)
    began = time.process_time()  # others keep the machine busy
    with pytest.raises(BadInput) as caught:
        load(str(folder))
    line = str(caught.value)
    assert message in line and "\n" not in line and len(line) < 600
    assert time.process_time() - began < 5 and not Path(HARM).exists()
    assert "Traceback" not in (printed := capfd.readouterr()).err + printed.out


def test_a_template_is_held_to_its_time_at_every_prompt(whole, monkeypatch):
    model = load(str(whole))
    monkeypatch.setattr(
        model.tokenizer, "chat_template", "{{ messages[0].content + 'x' * 90000 }}{{ 7 // 0 }}"
    )
    with pytest.raises(BadInput, match=r"prompt 'p': chat template: ZeroDivisionError"):
        model.generate([Prompt("p", "1+1=")], seed=0, interface=Interface())


def test_a_foreign_head_is_no_fault(folder):
    weights(lambda held: held.update({"v_head.weight": torch.ones(3)}))(folder)
    assert load(str(folder)).generate([Prompt("p", "1+1=")], seed=0, interface=Interface())


def test_pickled_weights_need_a_word_and_cannot_act_even_then(folder):
    tensors = load_file(folder / "model.safetensors")
    (folder / "model.safetensors").unlink()
    torch.save(tensors, folder / "pytorch_model.bin")
    with pytest.raises(BadInput, match="no file named model.safetensors"):
        load(str(folder))
    trusted = PretrainedModel(path=str(folder), allow_pickle=True)
    assert torch.equal(load(trusted).network.state_dict()[UP], tensors[UP])
    (folder / "pytorch_model.bin").write_bytes(pickle.dumps({UP: Harm(), "more": bytes(9999)}))
    with pytest.raises(BadInput, match="cannot be read"):
        load(trusted)
    assert not Path(HARM).exists()


def test_a_network_that_training_broke_says_nothing_and_any_other_is_an_error(folder):
    weights(lambda held: held["model.norm.weight"].fill_(torch.nan))(folder)
    (answer,) = load(str(folder), may_diverge=True).generate(
        [Prompt("p", "1+1=")], seed=0, interface=Interface()
    )
    assert answer.text == "" and answer.finished


@pytest.mark.parametrize("field", ["score_edits", "edits"])
@pytest.mark.parametrize("value", [torch.nan, torch.inf])
def test_a_defence_whose_scores_are_no_numbers_is_an_error(field, value, whole):
    model = load(str(whole), temperature=1.0)
    broken = replace(
        model,
        **{field: (lambda step, scores_BV: scores_BV.index_fill(1, torch.tensor([5]), value),)},
    )
    with pytest.raises(
        BadInput, match="prompt 'p': the model's scores behind its defence are not finite"
    ):
        broken.generate([Prompt("p", "1+1=")], seed=0, interface=Interface())


def test_a_network_whose_scores_are_no_numbers_is_an_error(whole):
    model = load(str(whole))
    with torch.no_grad():
        model.network.model.norm.weight.fill_(torch.nan)
    with pytest.raises(BadInput, match="prompt 'p': the model's scores are not finite"):
        model.generate([Prompt("p", "1+1=")], seed=0, interface=Interface())


def test_two_folders_of_one_tokenizer_have_one_digest(whole, folder):
    assert (
        tokenizer_digest(str(whole))
        == tokenizer_digest(str(folder))
        == load(str(folder)).vocabulary
    )
    (folder / "tokenizer.json").write_bytes(b"{}")
    with pytest.raises(BadInput, match="KeyError"):
        tokenizer_digest(str(folder))
