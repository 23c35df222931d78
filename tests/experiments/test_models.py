"""Pretrained students, teachers and proxies in a study: what is trained, kept and asked."""

import json
import shutil
from dataclasses import replace

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from distill.completions import BadInput, Interface, Prompt, read_completions
from distill.embedded import byte_pair_tokenizer, llama
from distill.folders import inspect, load, save
from distill.models import LanguageModel
from distill.rendering import completion_ids
from experiments import cli
from experiments.launch.one import make as make_stage
from experiments.planning import plan
from experiments.planning.costs import FLOPS, TRAINED, seconds
from experiments.settings import schema
from experiments.settings.entries import build_task
from experiments.stages.completions import FILE
from experiments.stages.files import ModelFile, TrainingReport
from experiments.stages.models import load_model
from experiments.stages.teacher import PretrainedTeacher
from experiments.store import Store
from tests.experiments.small import last

TEMPLATE = (
    "{% for m in messages %}<|{{ m.role }}|>{{ m.content }}{{ eos_token }}{% endfor %}"
    "{% if add_generation_prompt %}<|assistant|>{% endif %}"
)
WORDS = [
    "student.steps=2",
    "student.batch_size=4",
    "student.max_length=96",
    "student.max_new_tokens=40",
    "seeds=[0,1]",
    "baseline_seeds=2",
    "selection_seeds=[900]",
    "measure.items=10",
    "measure.selection_items=10",
    "measure.teacher_seeds=1",
    "measure.draws=100",
    "measure.plateau=false",
    "budget=8",
    "task=addition",
    "defense=release/answer_only",
    "attacker=sft",
]
PEFT = "peft"
DTYPES = {"pretrained": torch.bfloat16, "lora": torch.float32}


@pytest.fixture(scope="module")
def base(tmp_path_factory):
    """A small chat model with byte pairs, whose network has rows beyond its tokenizer."""
    place = tmp_path_factory.mktemp("base")
    tokenizer = byte_pair_tokenizer(["12+34=6 # 46", "user assistant"] * 3, 300)
    tokenizer.chat_template = TEMPLATE
    network = llama(tokenizer, hidden_size=16, num_layers=1, num_heads=2, max_length=128, seed=3)
    network.resize_token_embeddings(320, mean_resizing=False)
    save(LanguageModel(network, tokenizer), place)
    return place


def words(student, base, *more):
    teacher = ["teacher=finetuned", f"teacher.path={base}", "teacher.items=20", "teacher.steps=2"]
    sizes = ["teacher.max_length=96", "teacher.max_new_tokens=40", "teacher.batch_size=4"]
    return last(*teacher, *sizes, f"student={student}", f"student.path={base}", *WORDS, *more)


def studied(folder, *overrides):
    """A study's plan, run, and its store."""
    assert cli.main(["run", "quickstart", "--runs", str(folder), "--workers", "1", *overrides]) == 0
    named = [one for one in overrides if not one.startswith("--")]
    return plan.make(schema.load_named("quickstart", named)), Store(folder / "store")


@pytest.fixture(scope="module", params=["pretrained", "lora"])
def run(request, base, tmp_path_factory):
    if request.param == "lora":
        pytest.importorskip(PEFT, reason="LoRA needs peft, in the extra `real`")
    place = tmp_path_factory.mktemp(request.param)
    return request.param, *studied(place, *words(request.param, base))


def folder_of(store, made, attacker):
    """Where the first student of an attack is."""
    student = next(arm for arm in made.arms if arm.attacker == attacker).student
    return store.folder(student.kind, student.key)


def test_the_untrained_student_is_the_model_as_it_comes(run, base):
    """F0 answers what transformers' own greedy `generate` answers, in the numbers that the other
    students compute in.
    """
    kind, made, store = run
    model = load_model(folder_of(store, made, "floor/untrained"))
    network = AutoModelForCausalLM.from_pretrained(base, dtype=DTYPES[kind])
    tokenizer = AutoTokenizer.from_pretrained(base)
    for text in ("1+2=", "12+34="):
        (answer,) = model.generate([Prompt("a", text)], seed=0, interface=Interface())
        ids = tokenizer.apply_chat_template(
            [{"role": "user", "content": text}], add_generation_prompt=True, return_tensors="pt"
        )["input_ids"]
        rows = torch.arange(len(tokenizer), 320)  # beyond the tokenizer: they spell nothing
        out = network.generate(
            ids, max_new_tokens=40, do_sample=False, suppress_tokens=rows.tolist()
        )
        expected = out[0, ids.shape[1] :].tolist()
        assert [*answer.token_ids] == [one for one in expected if one != tokenizer.eos_token_id]


def test_a_student_is_kept_as_what_was_trained(run, base):
    kind, made, store = run
    folder = folder_of(store, made, "sft")
    saved, report = ModelFile.read(folder).model, TrainingReport.read(folder)
    whole, adapter = (
        (folder / name).is_file() for name in ("model.safetensors", "adapter_model.safetensors")
    )
    assert (whole, adapter) == ((True, False) if kind == "pretrained" else (False, True))
    assert (saved.base is None) == (kind == "pretrained")
    assert (report.trained is None) == (kind == "pretrained")
    assert report.device == "cpu" and report.steps == 2
    untrained = load_model(folder_of(store, made, "floor/untrained")).network
    trained = load_model(folder).network
    assert trained.dtype == untrained.dtype == DTYPES[kind]
    assert {one.dtype for one in trained.buffers()} == {torch.float32}  # rotary frequencies
    ids = torch.tensor([[3, 4, 5]])
    with torch.inference_mode():
        assert not torch.equal(trained(ids).logits, untrained(ids).logits)


def test_what_is_assumed_of_a_pretrained_student_is_of_its_size(run, base):
    """Not what small networks of ours take: that is three hundred times less a row of SmolLM2."""
    kind, made, store = run
    student = next(arm for arm in made.arms if arm.attacker == "sft").student
    assert store.done("student", student.key).assumed_seconds == seconds(student)
    network = AutoModelForCausalLM.from_pretrained(base)
    weights = inspect(str(base)).weights
    assert weights == pytest.approx(sum(one.numel() for one in network.parameters()), rel=0.2)
    long = student.spec.shape.model_copy(update={"steps": 10**9})
    spec = student.spec.model_copy(update={"shape": long})
    row_seconds = seconds(replace(student, spec=spec)) / (10**9 * long.batch_size)
    tokens = row_seconds * FLOPS / (2 * TRAINED * weights)
    folder, task = inspect(str(base)), build_task("addition")
    item = task.train_items(1, 0)[0]
    answer = completion_ids(folder.tokenizer, item.solution, True)
    assert tokens == pytest.approx(folder.tokens(item.prompt) + len(answer), rel=0.2)


def test_another_folder_of_the_same_model_is_the_same_work(base, tmp_path):
    twin = shutil.copytree(base, tmp_path / "twin")
    keys = [
        {
            stage.key
            for stage in plan.make(schema.load("quickstart", words("pretrained", one))).stages
        }
        for one in (base, twin)
    ]
    assert keys[0] == keys[1]


@pytest.mark.parametrize(
    ("change", "more", "message"),
    [
        ({}, ["student.path=./gone"], "student.path: no folder"),
        ({}, ["student.path=./gone.gguf"], "student.path: no folder"),
        ({}, ["student.max_length=4096"], "student.max_length: 4096 is more than the .* 128"),
        ({}, ["student.max_new_tokens=120"], "student.max_new_tokens: 120 and a question"),
        ({}, ["student.max_length=16"], "student.max_length: 16 tokens are too few for every"),
        ({}, ["student.device=cuda:7"], "device 'cuda:7': this machine has none"),
        ({}, ["student.dtype=bfloat16"], "dtype must be float32 where all weights are trained"),
        ({}, ["+student.depth=3"], "unknown key 'student.pretrained.depth'"),
        ({}, ["student.chat.date=today"], "student.pretrained.chat.date: .*date"),
        ({}, ["student.adapter=./none"], "student.adapter: adapter .* has no adapter_config.json"),
        ({"chat_template": "{{ 1/0 }}"}, [], "student.path: .*chat template: ZeroDivisionError"),
        ({"chat_template": None}, ["student.chat.system=Add."], "a system prompt, and .* no chat"),
        ({"eos_token": None}, [], "student.path: .*names no end-of-text token"),
    ],
)
def test_what_cannot_be_a_student_is_one_line_of_plan(
    change, more, message, base, tmp_path, capsys
):
    place = shutil.copytree(base, tmp_path / "model")
    path = place / "tokenizer_config.json"
    config = json.loads(path.read_bytes()) | change
    config = {name: value for name, value in config.items() if value is not None}
    path.write_text(json.dumps(config))
    if "chat_template" in change:
        (place / "chat_template.jinja").unlink()
    changed = last(*words("pretrained", base, f"student.path={place}"), *more)
    assert cli.main(["plan", "quickstart", "--runs", str(tmp_path), *changed]) == 2
    (line,) = [one for one in capsys.readouterr().err.splitlines() if one.strip()]
    with pytest.raises(BadInput, match=message):
        raise BadInput(line)


def test_a_downgrade_to_the_base_answers_as_the_model_before_its_training(base, tmp_path):
    changed = "defense=release/downgrade(to=base, share=1.0)"
    made = plan.make(schema.load_named("quickstart", words("pretrained", base, changed)))
    stage = next(arm.completions for arm in made.arms if arm.defense.startswith("release/down"))
    for needed in stage.walk():
        make_stage(needed, tmp_path)
    before = stage.needs.given.base
    assert isinstance(before.spec, PretrainedTeacher) and stage.needs.teacher != before
    released = read_completions(Store(tmp_path).folder(stage.kind, stage.key) / FILE)
    prompts = [Prompt(each.prompt_id, each.prompt) for each in released]
    model = replace(load(str(base)), max_new_tokens=40)
    expected = model.generate(prompts, seed=0, interface=Interface())
    assert [each.text for each in released] == [each.text for each in expected]
