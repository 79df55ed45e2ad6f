"""The two sides of ``bench_trl.py``, each run alone in a process of its own: our trainer, and TRL's ``SFTTrainer`` in several settings.

What it does: one random model in Hugging Face's format, chat rows, one start for the adapter; a run of either side over them; the rate
of plain matrix products at the model's own shapes. What it does not: repeat, compare or write (``bench_trl.py`` does). TRL, datasets and
transformers are imported by their side alone.
"""

import math
import os
import random
import resource
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.bench_training import ANSWER_WORDS, PROMPT_WORDS, WORDS
from luthier.chat.renderer import Renderer
from luthier.core.conversation import conversation_of
from luthier.core.examples import SourceLine
from luthier.core.settings import PACKAGE_DIR
from luthier.core.specs import TrainingSpec, TuningMethod
from luthier.core.tokens import TokenizedExample
from luthier.models.device import prepare_device, training_placement
from luthier.models.facts import read_config, read_facts
from luthier.models.load import load_model
from luthier.preprocessing.stage import Prepared
from luthier.trace.events import BaseMeasured, EpochDone, ReferenceScored, ResumeSaved, StepDone
from luthier.training.attach import ADAPTER_NAME
from luthier.training.evaluate import measure
from luthier.training.loop import Trainer
from luthier.training.resolve import base_rate
from luthier.training.schedule import learning_rate_at
from luthier.training.work import Micro, ModelShape, forward_work, shape_of

SHAPES: dict[str, dict[str, Any]] = {
    "15m": {
        "vocab_size": 32768,
        "hidden_size": 288,
        "intermediate_size": 768,
        "num_hidden_layers": 6,
        "num_attention_heads": 6,
        "num_key_value_heads": 6,
        "head_dim": 48,
    },
    "135m": {
        "vocab_size": 49152,
        "hidden_size": 576,
        "intermediate_size": 1536,
        "num_hidden_layers": 30,
        "num_attention_heads": 9,
        "num_key_value_heads": 3,
        "head_dim": 64,
    },
    "tiny": {
        "vocab_size": 8192,
        "hidden_size": 32,
        "intermediate_size": 48,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "head_dim": 8,
    },
}
"""``15m``: a Llama whose tied head is 61 % of it. ``135m``: SmolLM2-135M. ``tiny``: for the test of this file."""
BATCH, RANK, ALPHA, SEED = 8, 16, 32.0, 20261126
HELD_OUT_ROWS = 64
MULTIPLIER = 1.8


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """How TRL is asked to run."""

    options: dict[str, Any]
    """Of ``SFTConfig``, beside those that both sides share."""
    own_batches: bool = False
    """True where TRL makes its own batches of the same rows; else its batches are ours, row by row."""
    all_tokens: bool = False
    """True where the loss is of all tokens, so that it is another task: its speed alone is of interest."""
    threads: int = 2
    weights: str = "float32"
    number_format: str = "float32"
    """What matrices are multiplied in."""


_PLAIN = {"bf16": False, "gradient_checkpointing": False}
SETTINGS: dict[str, Setting] = {
    "TRL as shipped": Setting(options={}, number_format="bfloat16"),
    "TRL as shipped, its own order": Setting(options={"train_sampling_strategy": "random"}, own_batches=True, number_format="bfloat16"),
    "TRL bf16 autocast, no recomputation": Setting(options={"gradient_checkpointing": False}, number_format="bfloat16"),
    "TRL bf16 weights, no recomputation": Setting(options={"gradient_checkpointing": False}, weights="bfloat16", number_format="bfloat16"),
    "TRL fp32, recomputation": Setting(options={"bf16": False}),
    "TRL fp32": Setting(options=_PLAIN),
    "TRL fp32, grouped by length": Setting(options={**_PLAIN, "train_sampling_strategy": "group_by_length"}, own_batches=True),
    "TRL fp32, padding-free": Setting(options={**_PLAIN, "padding_free": True, "max_length": None}),
    "TRL fp32, packed": Setting(options={**_PLAIN, "packing": True}, own_batches=True),
    "TRL fp32, one thread": Setting(options=_PLAIN, threads=1),
    "TRL fp32, loss on all tokens": Setting(options=_PLAIN, all_tokens=True),
}
"""All but the first name what they change. ``bf16 weights`` leaves an adapter in float32, as PEFT does."""
OURS: dict[str, tuple[int, str]] = {"Luthier": (2, "auto"), "Luthier, one thread": (1, "auto"), "Luthier, float32": (2, "float32")}
"""Name, threads and the setting ``LUTHIER_PRECISION``."""


class Meter:
    """Wall-clock and processor seconds from the end of one step to the end of the next, with rows and true tokens of each."""

    def __init__(self) -> None:
        self.marks: list[tuple[float, float]] = []
        self.rows: list[int] = []
        self.tokens: list[int] = []
        self.begin()

    def begin(self) -> None:
        """The first step begins now."""
        self.marks = [(time.perf_counter(), time.process_time())]

    def step(self, rows: int, tokens: int) -> None:
        """A step has ended."""
        self.marks.append((time.perf_counter(), time.process_time()))
        self.rows.append(rows)
        self.tokens.append(tokens)

    def report(self, warm: int) -> dict[str, Any]:
        """Sums over the steps after the first ``warm``, and this process's largest memory so far."""
        last, first = self.marks[-1], self.marks[warm]
        return {
            "steps": len(self.rows) - warm,
            "rows": sum(self.rows[warm:]),
            "tokens": sum(self.tokens[warm:]),
            "seconds": last[0] - first[0],
            "processor_seconds": last[1] - first[1],
            "peak_rss_mb": round(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024),
        }


def build(shape: str, folder: Path) -> Path:
    """A random Llama of this shape with the embedded tokenizer, float32; beside it ``start``, a fresh adapter in PEFT's format."""
    from transformers import AutoModelForCausalLM, LlamaConfig

    config = LlamaConfig(
        max_position_embeddings=2048, tie_word_embeddings=True, bos_token_id=0, eos_token_id=5, pad_token_id=1, **SHAPES[shape]
    )
    torch.manual_seed(SEED)
    AutoModelForCausalLM.from_config(config, dtype=torch.float32).save_pretrained(folder)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(PACKAGE_DIR / "models" / "builtin" / "luthier-mini" / name, folder / name)
    model = load_model(folder)
    model.add_adapter("start", rank=RANK, alpha=ALPHA, seed=SEED)
    start = folder / "start"
    start.mkdir()
    model.save_adapter("start", start, base_name=str(folder))
    return folder


def talks(count: int, folder: Path, *, seed: int = SEED) -> Prepared:
    """Chat rows of plain words, about 60 tokens of prompt and 40 of answer, through our renderer."""
    draw, vocabulary, renderer = random.Random(seed), WORDS.split(), Renderer.load(folder)

    def words(bounds: tuple[int, int]) -> str:
        return " ".join(draw.choice(vocabulary) for _ in range(draw.randint(*bounds)))

    examples = []
    for line in range(1, count + 1):
        messages = [{"role": "user", "content": words(PROMPT_WORDS)}, {"role": "assistant", "content": words(ANSWER_WORDS)}]
        examples.append(TokenizedExample(source=SourceLine("file-A", line), rendered=renderer.example(conversation_of(messages))))
    trained = sum(example.rendered.num_trained for example in examples)
    return Prepared(examples=tuple(examples), num_tokens=sum(e.num_tokens for e in examples), num_trained=trained, num_truncated=0)


def spec_for(method: TuningMethod, folder: Path, *, steps: int, threads: int, precision: str = "float32") -> TrainingSpec:
    """One epoch of so many steps with our own rate for this model's size."""
    lora = method is TuningMethod.LORA
    return TrainingSpec(
        method=method,
        n_epochs=1,
        batch_size=BATCH,
        learning_rate_multiplier=MULTIPLIER,
        learning_rate=MULTIPLIER * base_rate(method, read_facts(folder).num_parameters, BATCH),
        lora_rank=RANK if lora else 0,
        lora_alpha=ALPHA if lora else 0.0,
        warmup_steps=1,
        steps_per_epoch=steps,
        total_steps=steps,
        max_length=2048,
        weight_decay=0.0 if lora else 0.01,
        adam_beta1=0.9,
        adam_beta2=0.95,
        adam_epsilon=1e-8,
        max_grad_norm=1.0,
        seed=SEED,
        num_threads=threads,
        validation_every=steps + 1,
        base="bench",
        base_revision="bench",
        dataset_fingerprint="bench",
        validation_fingerprint=None,
        precision=precision,
    )


class _Hooks:
    """The trainer's hooks: a clock."""

    def __init__(self, meter: Meter, data: Prepared) -> None:
        self._meter, self._data = meter, data

    def base_measured(self, report: BaseMeasured) -> None:
        """Training begins after it."""
        self._meter.begin()

    def reference_scored(self, report: ReferenceScored) -> None:
        """Only runs on pairs have a reference."""

    def step_done(self, report: StepDone) -> None:
        """Rows by their lines."""
        self._meter.step(len(report.lines), sum(self._data.examples[line - 1].num_tokens for line in report.lines))

    def epoch_done(self, report: EpochDone) -> None:
        """Not measured."""

    def save_checkpoint(self, epoch: int, step: int, metrics: dict[str, float]) -> None:
        """TRL saves none here either."""

    def resume_saved(self, report: ResumeSaved) -> None:
        """Written beside the steps, as in a job."""

    def happened(self, news: object) -> None:
        """Print it: no step of this may be out of the ordinary."""
        print(news)

    def should_stop(self) -> bool:
        """Never."""
        return False


def ours(folder: Path, method: TuningMethod, *, steps: int, warm: int, threads: int, precision: str) -> dict[str, Any]:
    """Our trainer as a job runs it: its number format, metrics, clipping and all; a resume state at the end of the epoch alone, because a
    twentieth of these few steps is one, and a job that saved all its weights after each step would measure the disk."""
    placement = training_placement("cpu", precision, method)
    prepare_device(placement.device, placement.precision)
    data, held_out = talks(steps * BATCH, folder), talks(HELD_OUT_ROWS, folder, seed=SEED + 1)
    model, meter = load_model(folder, dtype=placement.dtype), Meter()
    spec = spec_for(method, folder, steps=steps, threads=threads, precision=placement.precision)
    start = folder / "start" if method is TuningMethod.LORA else None
    with tempfile.TemporaryDirectory() as state:
        Trainer(
            model, spec, data, None, _Hooks(meter, data), Path(state), parent_adapter=start, resume_share=1.0, resume_seconds=math.inf
        ).run()
    narrow = placement.precision != "float32"
    report = {**meter.report(warm), "number_format": "bfloat16" if narrow else "float32"}
    with model.use_adapter(ADAPTER_NAME if start else None):
        return {**report, "held_out_loss": measure(model, held_out).loss}


def _columns(data: Prepared, order: Sequence[int], *, all_tokens: bool) -> dict[str, list[list[int]]]:
    """Rows as TRL takes tokens that are made already: ids, and labels that are -100 where nothing is learned."""
    chosen = [data.examples[index].rendered for index in order]
    labels = [r.ids_T if all_tokens else np.where(r.weights_T > 0, r.ids_T, -100) for r in chosen]
    return {"input_ids": [r.ids_T.tolist() for r in chosen], "labels": [row.tolist() for row in labels]}


def _pack_length(data: Prepared) -> int:
    """The length of a pack that holds about one batch."""
    return math.ceil(BATCH * data.num_tokens / len(data.examples) / 16) * 16


def trl(folder: Path, method: TuningMethod, setting: Setting, *, steps: int, warm: int) -> dict[str, Any]:
    """TRL's trainer over the same rows from the same start, with our rate, betas and decay."""
    # Nothing here may look for a hub or tell anybody.
    os.environ |= {"HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1", "TRL_EXPERIMENTAL_SILENCE": "1"}
    from peft import PeftModel
    from transformers import AutoModelForCausalLM, AutoTokenizer

    table, config = import_module("datasets").Dataset, import_module("trl").SFTConfig
    torch.set_num_threads(setting.threads)
    data, held_out = talks(steps * BATCH, folder), talks(HELD_OUT_ROWS, folder, seed=SEED + 1)
    spec = spec_for(method, folder, steps=steps, threads=setting.threads)
    order = [index for batch in data.epoch_batches(batch_size=BATCH, seed=SEED, epoch=1) for index in batch]
    model: Any = AutoModelForCausalLM.from_pretrained(folder, dtype=getattr(torch, setting.weights))
    if method is TuningMethod.LORA:
        model = PeftModel.from_pretrained(model, str(folder / "start"), is_trainable=True)
    meter = Meter()
    packed = bool(setting.options.get("packing"))
    shared = {
        "per_device_train_batch_size": 1 if packed else BATCH,
        "max_length": _pack_length(data) if packed else 2048,
        "num_train_epochs": 1,
        "learning_rate": spec.learning_rate,
        "adam_beta2": spec.adam_beta2,
        "weight_decay": spec.weight_decay,
        "max_grad_norm": spec.max_grad_norm,
        "seed": SEED,
        "train_sampling_strategy": "sequential",
    }
    with tempfile.TemporaryDirectory() as out:
        quiet = {"output_dir": out, "report_to": "none", "save_strategy": "no", "disable_tqdm": True, "use_cpu": True}
        trainer = _metered_trainer(meter, spec)(
            model=model,
            args=config(**{**quiet, **shared, **setting.options}),
            train_dataset=table.from_dict(_columns(data, order, all_tokens=setting.all_tokens)),
            processing_class=AutoTokenizer.from_pretrained(folder),
        )
        meter.begin()
        trainer.train()
    return {**meter.report(warm), "held_out_loss": _plain_loss(trainer.model, held_out)}


def _metered_trainer(meter: Meter, spec: TrainingSpec) -> Any:
    """SFTTrainer with our schedule and a clock; nothing else is changed."""
    from transformers import TrainerCallback

    trainer: Any = import_module("trl").SFTTrainer
    seen: dict[str, int] = {}

    class Clock(TrainerCallback):
        def on_step_end(self, *_: Any, **__: Any) -> None:
            meter.step(seen["rows"], seen["tokens"])

    class Metered(trainer):
        def __init__(self, **arguments: Any) -> None:
            super().__init__(callbacks=[Clock()], **arguments)

        def create_scheduler(self, num_training_steps: int, optimizer: Any = None) -> Any:
            at: Callable[[int], float] = lambda done: learning_rate_at(min(done + 1, spec.total_steps), spec) / spec.learning_rate  # noqa: E731
            self.lr_scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer or self.optimizer, at)
            return self.lr_scheduler

        def training_step(self, model: Any, inputs: dict[str, Any], *rest: Any, **named: Any) -> Any:
            mask, places = inputs.get("attention_mask"), inputs.get("position_ids")
            seen["tokens"] = int(mask.sum()) if mask is not None else inputs["input_ids"].numel()
            seen["rows"] = inputs["input_ids"].shape[0] if places is None else int((places == 0).sum())
            return super().training_step(model, inputs, *rest, **named)

    return Metered


@torch.no_grad()
def _plain_loss(model: Any, data: Prepared) -> float:
    """Mean loss per trained token in float32, by transformers."""
    model = model.float().eval()
    loss_sum, count = 0.0, 0
    for start in range(0, len(data.examples), BATCH):
        made = data.batch(range(start, min(start + BATCH, len(data.examples))))
        ids = torch.from_numpy(made.ids_BT)
        mask = (torch.arange(ids.shape[1])[None] < torch.from_numpy(made.lengths_B)[:, None]).long()
        logits = model(input_ids=ids, attention_mask=mask).logits[:, :-1].float()
        rows, columns = np.nonzero(made.weights_BT[:, 1:])
        loss_sum += float(torch.nn.functional.cross_entropy(logits[rows, columns], ids[rows, columns + 1], reduction="sum"))
        count += len(rows)
    return loss_sum / count


def operations_per_token(folder: Path, method: TuningMethod, data: Prepared) -> float:
    """Floating-point operations that the model needs per true token: no padding, no recomputation, the head where something is learned."""
    shape = shape_of(read_config(folder), read_facts(folder))
    rows = (Micro(rows=1, longest=e.num_tokens, trained=e.rendered.num_trained) for e in data.examples)
    return sum(forward_work(row, shape) for row in rows) * (3 if method is TuningMethod.FULL else 2) / data.num_tokens


def matrix_rate(folder: Path, method: TuningMethod, *, dtype: torch.dtype, threads: int, seconds: float) -> dict[str, Any]:
    """GFLOP/s of plain products at the model's own matrices with a batch's rows, forward and backward: by the clock and per busy core."""
    torch.set_num_threads(threads)
    data, shape = talks(BATCH * 8, folder), shape_of(read_config(folder), read_facts(folder))
    rows, trained = round(data.num_tokens / 8), round(data.num_trained / 8)
    products = [p for out, width, count in _matrices(shape) for p in _products(rows, out, width, count, method, dtype)]
    products += _products(trained, shape.vocab_size, shape.hidden_size, 1, method, dtype)
    work = took = busy = 0.0
    for left, right, count in products:
        once = 2.0 * left.shape[0] * left.shape[1] * right.shape[1]
        torch.mm(left, right)
        times, began, began_busy = 0, time.perf_counter(), time.process_time()
        while times < 3 or time.perf_counter() - began < seconds:
            torch.mm(left, right)
            times += 1
        work += count * once
        took += count * (time.perf_counter() - began) / times
        busy += count * (time.process_time() - began_busy) / times
    return {"gflops": work / took / 1e9, "gflops_per_processor": work / busy / 1e9}


def _matrices(shape: ModelShape) -> list[tuple[int, int, int]]:
    """(out, in, how many) of the blocks, q, k, v and gate, up each in one."""
    h, n = shape.hidden_size, shape.num_layers
    return [(shape.q_size + 2 * shape.kv_size, h, n), (h, shape.q_size, n), (2 * shape.mlp_size, h, n), (h, shape.mlp_size, n)]


def _products(rows: int, out: int, width: int, count: int, method: TuningMethod, dtype: torch.dtype) -> list[tuple[Any, Any, int]]:
    x, y, weight = (torch.randn(*size).to(dtype) for size in ((rows, width), (rows, out), (out, width)))
    made = [(x, weight.t(), count), (y, weight, count)]
    return [*made, (y.t(), x, count)] if method is TuningMethod.FULL else made
