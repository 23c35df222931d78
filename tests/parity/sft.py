"""One fine-tune by our trainer and by TRL's SFTTrainer, of all weights and of a LoRA adapter: the
same model, rows, order, recipe and float32. Each runs in a process of its own, which says the loss
of every step, the CPU seconds of a step and the most memory that it had.

    python -m tests.parity.sft MODEL_FOLDER
"""

from __future__ import annotations

import itertools
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal, NamedTuple, get_args

from pydantic import BaseModel

from distill import adapters, folders
from distill.completions import Prompt
from distill.models import LanguageModel
from distill.objectives import Example, imitation
from distill.rendering import completion_ids, prompt_ids
from distill.specs import LoraConfig, TrainingConfig
from distill.trainer import BETAS, batches, rate, train, warmup_steps

Side = Literal["ours", "trl"]
Kind = Literal["full", "lora"]
STEPS, BATCH, ROWS, SEED = 20, 4, 32, 0
WARM = 2  # steps that are not timed
LOSSES = 1e-4
NOISE = 1.02
"""What seconds and memory of the same fine-tune differ by."""
# TRL's own learning rate; at five times it losses of all weights were 3e-4 apart.
RECIPE = TrainingConfig(
    max_length=256, steps=STEPS, batch_size=BATCH, learning_rate=2e-5, warmup=0.1, clip=1.0
)
ROOT = Path(__file__).parents[2]


class Run(BaseModel):
    """What a fine-tune was like; `memory` in bytes."""

    losses: list[float]
    step_seconds: float
    memory: int


class Pair(NamedTuple):
    """Both of a kind: how far losses are apart, and our seconds and memory as shares of theirs."""

    kind: Kind
    apart: float
    seconds: float
    memory: float


@dataclass
class Watch:
    """The loss of each step as it is computed, and the CPU seconds until then."""

    losses: list[float] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)

    def note(self, loss: Any) -> None:
        self.losses.append(float(loss.detach()))
        self.seconds.append(time.process_time())

    def run(self) -> Run:
        timed = self.seconds[WARM:]
        return Run(
            losses=self.losses,
            step_seconds=(timed[-1] - timed[0]) / (len(timed) - 1),
            memory=1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss,
        )


def examples(model: LanguageModel) -> list[Example]:
    """Sums with their steps, of several lengths."""
    rows = []
    for i in range(ROWS):
        numbers = [7 + 3 * i % 11, *range(2, 3 + i % 4)]
        sums = [*itertools.accumulate(numbers)]
        steps = [f"{a}+{b}={a + b}" for a, b in zip(sums, numbers[1:], strict=False)]
        question = Prompt(str(i), f"{'+'.join(map(str, numbers))}=?")
        answer = completion_ids(model.tokenizer, f"{';'.join(steps)} # {sums[-1]}", True)
        rows.append(Example(prompt_ids(model.tokenizer, question), answer))
    return rows


def prepared(folder: Path, kind: Kind) -> LanguageModel:
    """The model, with a fresh adapter where one is trained."""
    model = folders.load(str(folder))
    if kind == "lora":
        adapters.add(model.network, LoraConfig(), SEED)
    return model


def ours(folder: Path, kind: Kind) -> Run:
    """By `distill.trainer.train`."""
    model, watch = prepared(folder, kind), Watch()

    def loss(network: Any, rows: list[Example], pad: int, device: Any) -> Any:
        value = imitation(network, rows, pad, device)
        watch.note(value)
        return value

    pad = model.tokenizer.pad_token_id
    train(model.network, examples(model), RECIPE, seed=SEED, pad=pad, loss=loss)
    return watch.run()


def trl(folder: Path, kind: Kind) -> Run:
    """By SFTTrainer, which is given the order of our batches and our schedule."""
    import torch
    from datasets import Dataset
    from peft import LoraConfig as Adapter
    from peft import get_peft_model
    from transformers import AutoModelForCausalLM
    from trl import SFTConfig, SFTTrainer

    watch = Watch()

    class Watched(SFTTrainer):  # type: ignore[misc]  # TRL is no dependency
        def compute_loss(self, *args: Any, **more: Any) -> Any:
            value = super().compute_loss(*args, **more)
            watch.note(value)
            return value

    tokenizer = folders.open_tokenizer(str(folder))
    tokenizer.padding_side = "right"
    network: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    if kind == "lora":
        same = LoraConfig()
        torch.manual_seed(SEED)
        adapter = Adapter(
            r=same.r, lora_alpha=int(same.alpha), target_modules=same.targets, task_type="CAUSAL_LM"
        )
        network = get_peft_model(network, adapter)
    rows = examples(LanguageModel(network, tokenizer))
    moving = [weight for weight in network.parameters() if weight.requires_grad]
    optimizer = torch.optim.AdamW(
        moving, lr=RECIPE.learning_rate, betas=BETAS, weight_decay=0.0, fused=True
    )
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: rate(step, STEPS, warmup_steps(RECIPE))
    )
    with tempfile.TemporaryDirectory() as out:
        config = SFTConfig(
            output_dir=out,
            max_steps=STEPS,
            per_device_train_batch_size=BATCH,
            train_sampling_strategy="sequential",
            max_grad_norm=RECIPE.clip,
            gradient_checkpointing=False,
            bf16=False,
            use_cpu=True,
            report_to="none",
            save_strategy="no",
            logging_strategy="no",
            disable_tqdm=True,
        )
        trained = Dataset.from_list([_row(rows[i]) for i in _order(rows)])
        trainer = Watched(
            network,
            config,
            train_dataset=trained,
            processing_class=tokenizer,
            optimizers=(optimizer, schedule),
        )
        trainer.train()
    return watch.run()


def _order(rows: Sequence[Example]) -> list[int]:
    """The rows as our batches take them."""
    lengths = [len(row.prompt_ids) + len(row.answer_ids) for row in rows]
    taken = itertools.islice(batches(lengths, BATCH, SEED), STEPS)
    return [i for batch in taken for i in batch]


def _row(row: Example) -> dict[str, list[int]]:
    ids = row.prompt_ids + row.answer_ids
    return {"input_ids": ids, "labels": [-100] * len(row.prompt_ids) + row.answer_ids}


def apart(side: Side, kind: Kind, folder: Path) -> Run:
    """A fine-tune in a process of its own, on one thread."""
    call = [sys.executable, "-W", "ignore", "-m", "tests.parity.sft", str(folder), side, kind]
    more = {
        "OMP_NUM_THREADS": "1",
        "PYTHONPATH": str(ROOT),
        "TRL_EXPERIMENTAL_SILENCE": "1",
        "HF_DATASETS_DISABLE_PROGRESS_BARS": "1",
    }
    done = subprocess.run(
        call, cwd=ROOT, env={**os.environ, **more}, stdout=subprocess.PIPE, text=True, check=True
    )
    return Run.model_validate_json(done.stdout.splitlines()[-1])


def pairs(folder: Path) -> list[Pair]:
    """Both kinds by both, in turn."""
    seen = []
    for kind in get_args(Kind):
        a, b = (apart(side, kind, folder) for side in get_args(Side))
        far = max(abs(x - y) for x, y in zip(a.losses, b.losses, strict=True))
        seen.append(Pair(kind, far, a.step_seconds / b.step_seconds, a.memory / b.memory))
    return seen


def main(folder: Path) -> int:
    """Print how the two compare; 1 where losses are further apart than `LOSSES`, or ours is slower
    or larger.
    """
    print(f"SFTTrainer, {STEPS} steps of {BATCH} rows in float32; seconds and memory: ours / TRL\n")
    print(f"{'':8}{'largest difference of losses':>32}{'CPU seconds':>16}{'memory':>10}")
    wrong = 0
    for pair in pairs(folder):
        print(f"{pair.kind:8}{pair.apart:32.1e}{pair.seconds:16.2f}{pair.memory:10.2f}")
        wrong |= not (pair.apart <= LOSSES and max(pair.seconds, pair.memory) <= NOISE)
    return int(wrong)


if __name__ == "__main__":
    model, *which = sys.argv[1:]
    if which:
        side, kind = which
        fine_tune = {"ours": ours, "trl": trl}[side]
        print(fine_tune(Path(model), "lora" if kind == "lora" else "full").model_dump_json())
    else:
        sys.exit(main(Path(model)))
