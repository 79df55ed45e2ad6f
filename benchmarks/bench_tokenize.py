"""A chat file to packed tokens: Luthier beside TRL's ``SFTTrainer`` and ``datasets.map``, same rows, same tokenizer, one run.

Run: ``python -m benchmarks.bench_tokenize [--megabytes 20] [--repeats 3]``; ``--luthier-only --megabytes 2000`` for the rate and memory of
a large file. Needs the optional libraries of ``pip install -e '.[bench]'``. The file is made from a fixed seed. Before anything is timed,
the ids and the trained tokens of a sample are compared, and afterwards the number of tokens of the whole file.

What is timed: ours reads, renders, tokenizes, packs and writes the cache that jobs map, with as many processes as a job would take on this
machine and once more with one (the check of the file is not in it); TRL's is
``SFTTrainer._prepare_dataset`` with ``assistant_only_loss`` and best-fit-decreasing packing; that of ``datasets`` is a batched map of
``apply_chat_template``, with one and with two processes, ids only, without packing. Reading the JSON into their table is not counted
against them. Every contender runs in a process of its own, in turn, so that a busy neighbour meets all of them; processor seconds are
recorded beside the clock's.
"""

import argparse
import hashlib
import json
import os
import random
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from importlib import import_module
from itertools import accumulate
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import orjson

from luthier.chat.renderer import Renderer
from luthier.core.settings import Settings
from luthier.data.stage import collect
from luthier.models.checkpoint import folder_bytes
from luthier.preprocessing.cache import CacheKey, TokenCache
from luthier.preprocessing.pack import pack
from luthier.preprocessing.parallel import processes_for, tokenize_over_processes
from luthier.preprocessing.stage import KeptRows
from luthier.preprocessing.tokenize import tokenize_all

MODEL = Settings().resolve_model_path("builtin:luthier-mini")
MAX_LENGTH = 2048
SAMPLE_ROWS = 400
MEGABYTE = 1e6
VOCABULARY = 40_000
OTHERS = {"TRL": "trl", "datasets.map": "map1", "datasets.map, 2 processes": "map2"}
OURS = {"Luthier": "luthier", "Luthier, 1 process": "luthier1"}
_SYLLABLES = "ba ce di fo gu ha je ki lo mu na pe ri so tu va we xi yo zu sta tri pla cro ghe ing ers ous ion al"
_ODD = ("3.14", "2026-11-26", "café", "naïve", "x_1 = f(y)\n", "\n\n- ", "«oui»", "漢字", "http://example.com/a?b=c", "don't", "12,345")


def make_file(path: Path, megabytes: float) -> None:
    """Chats of two or three turns; words as rare as in real text (Zipf's law), some numbers, code, accents and other scripts."""
    draw = random.Random(20261126)
    syllables = _SYLLABLES.split()
    # The model's own words, the frequent ones first, and invented ones for the long tail.
    pieces = json.loads((MODEL / "tokenizer.json").read_text(encoding="utf-8"))["model"]["vocab"]
    words = [
        piece[1:] for piece in sorted(pieces, key=pieces.__getitem__) if piece[0] == "Ġ" and piece[1:].isascii() and piece[1:].isalpha()
    ]
    words += ["".join(draw.choices(syllables, k=draw.choice((1, 2, 2, 3, 3, 4)))) for _ in range(VOCABULARY - len(words))]
    odds = list(accumulate(1 / rank for rank in range(1, VOCABULARY + 1)))

    def text(low: int, high: int) -> str:
        chosen = draw.choices(words, cum_weights=odds, k=draw.randint(low, high))
        chosen[0] = chosen[0].capitalize()
        if draw.random() < 0.5:
            chosen[draw.randrange(len(chosen))] = draw.choice(_ODD)
        return " ".join(chosen) + draw.choice(".?!")

    size = 0
    with path.open("wb") as file:
        while size < megabytes * MEGABYTE:
            messages: list[dict[str, Any]] = [{"role": "system", "content": text(8, 14)}]
            for _ in range(draw.choice((2, 2, 3))):
                messages += [{"role": "user", "content": text(11, 23)}, {"role": "assistant", "content": text(23, 39)}]
            size += file.write(orjson.dumps({"messages": messages}, option=orjson.OPT_APPEND_NEWLINE))


def luthier(path: Path, folder: Path, *, processes: int) -> tuple[int, dict[str, Any]]:
    """Ours; returns tokens and what packing reports. The check and the index of the file are made before."""
    dataset = collect("file", path, role="training", max_line_bytes=1 << 23, sha256="")
    renderer = Renderer.load(MODEL)

    def work() -> tuple[int, dict[str, Any]]:
        if processes > 1:
            load = partial(Renderer.load, MODEL)
            chunks = tokenize_over_processes(dataset.examples, load, dataset.row_format, max_length=MAX_LENGTH, processes=processes)
        else:
            chunks = tokenize_all(dataset.examples, renderer, dataset.row_format, max_length=MAX_LENGTH)
        rows = KeptRows(chunks, max_length=MAX_LENGTH, role="training")
        cache = TokenCache(folder, max_bytes=1 << 40)
        key = CacheKey(sha256=dataset.fingerprint, options={"run": time.time_ns()})
        stored = cache.write(key, rows, rows.notes, vocab_size=renderer.tokenizer.vocab_size, file_id="file")
        packed = pack(stored.table.lengths, MAX_LENGTH)
        report = {
            "sequences": packed.num_rows,
            "packing_efficiency": round(packed.efficiency, 4),
            "cache_mb": round(folder_bytes(folder / key.name) / MEGABYTE, 1),
        }
        return packed.num_tokens, report

    return timed(work)


def _table(path: Path) -> Any:
    datasets = import_module("datasets")
    datasets.disable_progress_bars()
    return datasets.load_dataset("json", data_files=str(path), split="train")


def _their_tokenizer() -> Any:
    return import_module("transformers").AutoTokenizer.from_pretrained(MODEL)


def trl_prepared(table: Any, tokenizer: Any, *, packing: bool, folder: Path) -> Any:
    """What ``SFTTrainer`` makes of a data set before it trains: its own method, without the model that it does not look at."""
    options = import_module("trl").SFTConfig(
        output_dir=str(folder),
        assistant_only_loss=True,
        packing=packing,
        packing_strategy="bfd",
        max_length=MAX_LENGTH,
        use_cpu=True,
        bf16=False,
    )
    trainer: Any = SimpleNamespace(_tokenizer=tokenizer, chat_template=tokenizer.chat_template, completion_only_loss=True)
    return import_module("trl").SFTTrainer._prepare_dataset(trainer, table, tokenizer, options, packing, None, "train")


def trl(path: Path, folder: Path) -> tuple[int, dict[str, Any]]:
    """TRL; returns tokens and how full its sequences are."""
    table, tokenizer = _table(path), _their_tokenizer()

    def work() -> tuple[int, dict[str, Any]]:
        packed = trl_prepared(table, tokenizer, packing=True, folder=folder)
        return len(packed), {"packed": packed}

    _, result = timed(work)
    packed = result.pop("packed")
    tokens = sum(len(ids) for ids in packed["input_ids"])
    return tokens, {**result, "sequences": len(packed), "packing_efficiency": round(tokens / (len(packed) * MAX_LENGTH), 4)}


def datasets_map(path: Path, _folder: Path, *, processes: int) -> tuple[int, dict[str, Any]]:
    """``datasets.map``; returns tokens."""
    table, tokenizer = _table(path), _their_tokenizer()

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        return {"input_ids": tokenizer.apply_chat_template(batch["messages"], tokenize=True, return_dict=True)["input_ids"]}

    def work() -> tuple[int, dict[str, Any]]:
        number = None if processes == 1 else processes
        mapped = table.map(encode, batched=True, remove_columns=table.column_names, num_proc=number)
        return len(mapped), {"mapped": mapped}

    _, result = timed(work)
    return sum(len(ids) for ids in result.pop("mapped")["input_ids"]), result


CONTENDERS: dict[str, Callable[[Path, Path], tuple[int, dict[str, Any]]]] = {
    "luthier": lambda path, folder: luthier(path, folder, processes=processes_for(os.cpu_count() or 1)),
    "luthier1": lambda path, folder: luthier(path, folder, processes=1),
    "trl": trl,
    "map1": lambda path, folder: datasets_map(path, folder, processes=1),
    "map2": lambda path, folder: datasets_map(path, folder, processes=2),
}


def timed(work: Callable[[], tuple[int, dict[str, Any]]]) -> tuple[int, dict[str, Any]]:
    """Run once; seconds, processor seconds (those of ended children too) and this process's peak memory are added."""
    used, began = _processor_seconds(), time.perf_counter()
    tokens, report = work()
    seconds = time.perf_counter() - began
    return tokens, {**report, "seconds": seconds, "processor_seconds": _processor_seconds() - used, "peak_rss_mb": _peak_mb()}


def _peak_mb() -> int:
    """Most memory of this process. Not ``ru_maxrss``: that begins with what its parent had."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return round(int(next(line for line in status.splitlines() if line.startswith("VmHWM")).split()[1]) * 1024 / MEGABYTE)


def _processor_seconds() -> float:
    usages = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(usage.ru_utime + usage.ru_stime for usage in usages)


def check_equal(path: Path, folder: Path) -> str:
    """Compare ids and trained tokens of a sample, row by row; returns their hash."""
    sample = folder / "sample.jsonl"
    with path.open("rb") as file:
        sample.write_bytes(b"".join(file.readline() for _ in range(SAMPLE_ROWS)))
    dataset = collect("file", sample, role="training", max_line_bytes=1 << 23, sha256="")
    chunks = tokenize_all(dataset.examples, Renderer.load(MODEL), dataset.row_format, max_length=MAX_LENGTH)
    ours = [example for chunk in chunks for example in chunk.table]
    theirs = trl_prepared(_table(sample), _their_tokenizer(), packing=False, folder=folder)
    digest = hashlib.sha256()
    for row, example in zip(ours, theirs, strict=True):
        ids, labels = (
            row.rendered.ids_T.tolist(),
            [i if w else -100 for i, w in zip(row.rendered.ids_T.tolist(), row.rendered.weights_T, strict=True)],
        )
        if (ids, labels) != (example["input_ids"], example["labels"]):
            raise SystemExit(f"line {row.source.line}: TRL's tokens differ from ours; nothing was timed")
        digest.update(json.dumps([ids, labels]).encode())
    return digest.hexdigest()


def run_apart(name: str, path: Path, folder: Path) -> dict[str, Any]:
    """One contender, once, in a fresh process with an empty cache of its own."""
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = [sys.executable, "-m", "benchmarks.bench_tokenize", "--contender", name, "--file", str(path), "--scratch", scratch]
        environment = {**os.environ, "HF_DATASETS_CACHE": scratch + "/hf", "HF_HUB_OFFLINE": "1", "HF_DATASETS_DISABLE_PROGRESS_BARS": "1"}
        done = subprocess.run(command, env=environment, stdout=subprocess.PIPE, check=True)
        return json.loads(done.stdout.splitlines()[-1])


def summary(runs: list[dict[str, Any]], size: float) -> dict[str, Any]:
    """Medians of one contender's runs."""
    # Not above: each tokenizing process imports this module anew, and would load all that ``measured`` needs.
    from benchmarks.measured import median, spread

    first = runs[0]
    named = {k: first[k] for k in ("sequences", "packing_efficiency", "cache_mb") if k in first}
    return {
        "seconds": median([r["seconds"] for r in runs]),
        "spread": spread([r["seconds"] for r in runs]),
        "mb_per_second": median([size / r["seconds"] for r in runs], 2),
        "processor_seconds": median([r["processor_seconds"] for r in runs]),
        "peak_rss_mb": max(r["peak_rss_mb"] for r in runs),
        **named,
    }


def compare(path: Path, folder: Path, contenders: dict[str, str], repeats: int) -> dict[str, Any]:
    """All contenders in turn, ``repeats`` times; medians, and how many times faster ours is."""
    size = path.stat().st_size / MEGABYTE
    runs: dict[str, list[dict[str, Any]]] = {title: [] for title in contenders}
    for _ in range(repeats):
        for title, name in contenders.items():
            runs[title].append(run_apart(name, path, folder))
            print(f"  {title}: {runs[title][-1]}", flush=True)
    if len({run["tokens"] for some in runs.values() for run in some}) != 1:
        raise SystemExit("the contenders gave different numbers of tokens")
    results: dict[str, Any] = {title: summary(some, size) for title, some in runs.items()}
    ours = results["Luthier"]
    for title in contenders:
        if title in OTHERS:
            results[f"ratio to {title}"] = {
                "seconds": round(results[title]["seconds"] / ours["seconds"], 2),
                "processor_seconds": round(results[title]["processor_seconds"] / ours["processor_seconds"], 2),
            }
    results["file"] = {"megabytes": round(size, 1), "tokens": runs["Luthier"][0]["tokens"], "repeats": repeats}
    return results


def main() -> None:
    """Measure and record, or be one of the contenders."""
    parser = argparse.ArgumentParser(description="Tokenizing and packing, side by side")
    parser.add_argument("--megabytes", type=float, default=20.0)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--luthier-only", action="store_true")
    parser.add_argument("--contender", choices=CONTENDERS)
    parser.add_argument("--file", type=Path)
    parser.add_argument("--scratch", type=Path)
    options = parser.parse_args()
    if options.contender:
        tokens, report = CONTENDERS[options.contender](options.file, options.scratch)
        print(json.dumps({**report, "tokens": tokens}))
        return
    from benchmarks.measured import record

    load = os.getloadavg()[0]
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as name:
        folder, path = Path(name), Path(name) / "chat.jsonl"
        make_file(path, options.megabytes)
        if options.luthier_only:
            results = compare(path, folder, OURS, options.repeats)
        else:
            sample = check_equal(path, folder)
            results = compare(path, folder, {**OURS, **OTHERS}, options.repeats)
            results["sample compared"] = {"rows": SAMPLE_ROWS, "sha256": sample}
    results["load average"] = {"at the start": round(load, 2), "at the end": round(os.getloadavg()[0], 2)}
    record("tokenize-large" if options.luthier_only else "tokenize", results)


if __name__ == "__main__":
    main()
