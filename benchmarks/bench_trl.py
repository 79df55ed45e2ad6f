"""Our training loop beside TRL's ``SFTTrainer`` on this CPU: TRL as shipped, and in ten more settings.

Both sides start from the same weights and take the same rows in the same steps (TRL is given our batches, which hold rows of like length,
so that it has little padding too; the settings with batches of their own say so), with the same rate, betas, decay and clipping. Every run
is a process of its own with its threads bounded; the runs go in turns. Shown are medians over the runs, of the steps after the warm ones:
examples and true tokens per second, the same per busy core, peak memory, the loss on held-out rows after the last step, and the share of
the rate of plain matrix products at this model's own shapes, in the same number format, in the same run.

Run: ``make bench-training`` on a quiet machine (it installs the extra ``bench``), or ``python -m benchmarks.bench_trl --quick``.
``benchmarks/baselines/<cores>cpu-trl-<shape>.json`` is written by a run of a shape with all settings alone. What the sides do stands in
``trl_sides.py``.
"""

import argparse
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from benchmarks.measured import BASELINES, machine, median, spread

SHAPES = ("15m", "135m")
METHODS = ("lora", "full")
STEPS = {"15m": (24, 4), "135m": (10, 2)}
QUICK_STEPS = (3, 1)
"""Steps of a run, and how many of them warm up."""
REPEATS = 3
LOSS_TOLERANCE = 0.01
BOUNDS: dict[tuple[str, str], dict[str, float]] = {
    ("15m", "lora"): {"as shipped": 10.0, "best": 3.0, "memory": 0.6},
    ("15m", "full"): {"as shipped": 10.0, "best": 3.0, "memory": 0.6},
    ("135m", "lora"): {"as shipped": 4.0, "best": 3.0, "utilisation": 0.5},
    ("135m", "full"): {"as shipped": 3.0, "best": 3.0, "memory": 1.1, "utilisation": 0.5},
}
"""At least so many times TRL's examples per second; at most this share of its memory as shipped; at least this utilisation."""
SHIPPED, OUR_NAME = "TRL as shipped", "Luthier"
FORMATS = ("float32", "bfloat16")


def bfloat16_instructions() -> str:
    """What this CPU multiplies bfloat16 with, in words; it decides how TRL as shipped fares."""
    cpuinfo = Path("/proc/cpuinfo")
    flags = set(cpuinfo.read_text().split()) if cpuinfo.exists() else set()
    named = sorted(flags & {"avx512_bf16", "amx_bf16", "bf16"})
    widest = next((name for name in ("avx512f", "avx2", "asimd") if name in flags), "unknown vectors")
    return f"{widest} with {', '.join(named)}" if named else f"{widest} without bfloat16 instructions: bfloat16 is emulated"


def run_apart(arguments: Sequence[str], threads: int, limit: float | None = None) -> dict[str, Any]:
    """One part of the work in a fresh process; its report, or why there is none."""
    bounded = dict.fromkeys(("OMP_NUM_THREADS", "MKL_NUM_THREADS"), str(threads))
    environment = {**os.environ, **bounded, "TOKENIZERS_PARALLELISM": "false"}
    command = [sys.executable, "-W", "ignore", "-m", "benchmarks.bench_trl", *arguments]
    try:
        done = subprocess.run(command, env=environment, capture_output=True, timeout=limit, check=False)
    except subprocess.TimeoutExpired:
        return {"failed": f"not done after {limit:.0f} s"}
    lines = done.stdout.decode().splitlines()
    if done.returncode or not lines:
        last = done.stderr.decode(errors="replace").strip().splitlines()[-1:] or ["no output"]
        return {"failed": f"ended with {done.returncode}: {last[0][:300]}"}
    return json.loads(lines[-1])


def one_part(options: argparse.Namespace) -> dict[str, Any]:
    """What a process of ``run_apart`` does."""
    import torch

    from benchmarks import trl_sides
    from luthier.core.specs import TuningMethod

    if options.part == "build":
        return {"built": str(trl_sides.build(options.shapes[0], options.folder))}
    method = TuningMethod(options.methods[0])
    if options.part in FORMATS:
        dtype = getattr(torch, options.part)
        rate = trl_sides.matrix_rate(options.folder, method, dtype=dtype, threads=2, seconds=0.05 if options.quick else 0.5)
        data = trl_sides.talks(256, options.folder)
        return {**rate, "operations_per_token": trl_sides.operations_per_token(options.folder, method, data)}
    lengths = {"steps": options.steps, "warm": options.warm}
    if options.part in trl_sides.OURS:
        threads, precision = trl_sides.OURS[options.part]
        return trl_sides.ours(options.folder, method, threads=threads, precision=precision, **lengths)
    return trl_sides.trl(options.folder, method, trl_sides.SETTINGS[options.part], **lengths)


def summary(runs: Sequence[Mapping[str, Any]], rates: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """Medians of one contender's runs; ``rates`` are the matrix rates of its number format."""
    failed = [run["failed"] for run in runs if "failed" in run]
    if failed:
        return {"failed": failed[0]}
    speeds = [run["rows"] / run["seconds"] for run in runs]
    busy = [run["tokens"] / run["processor_seconds"] for run in runs]
    tokens = [run["tokens"] / run["seconds"] for run in runs]
    found = {
        "examples_per_second": median(speeds, 2),
        "spread": spread(speeds),
        "tokens_per_second": median(tokens, 1),
        "examples_per_processor_second": median([run["rows"] / run["processor_seconds"] for run in runs], 2),
        "peak_rss_mb": median([run["peak_rss_mb"] for run in runs], 0),
        "held_out_loss": median([run["held_out_loss"] for run in runs], 4),
    }
    usable = [rate for rate in rates if "failed" not in rate]
    if usable:
        per_token = usable[0]["operations_per_token"] / 1e9
        found["utilisation"] = round(median(tokens, 6) * per_token / median([rate["gflops"] for rate in usable], 6), 3)
        per_core = median([rate["gflops_per_processor"] for rate in usable], 6)
        found["utilisation_of_busy_cores"] = round(median(busy, 6) * per_token / per_core, 3)
    return found


def verdicts(shape: str, method: str, found: Mapping[str, Mapping[str, Any]], comparable: Iterable[str]) -> dict[str, Any]:
    """Our ratios beside the bounds, and whether they hold. ``comparable``: the settings that train the same task."""
    ours = found[OUR_NAME]
    trl = {name: found[name] for name in comparable if name in found and "failed" not in found[name]}
    if "failed" in ours or not trl:
        return {"failed": "there is nothing to compare"}
    best = max(trl, key=lambda name: trl[name]["examples_per_second"])
    seen: dict[str, Any] = {"TRL's best setting": best, "best": _ratio(ours, trl[best])}
    same = [other for other in trl.values() if _apart(ours, other) <= LOSS_TOLERANCE]
    if same:
        seen["best with the same held-out loss"] = _ratio(ours, max(same, key=lambda other: other["examples_per_second"]))
    if SHIPPED in trl:
        seen["as shipped"] = _ratio(ours, trl[SHIPPED])
        seen["memory"] = round(ours["peak_rss_mb"] / trl[SHIPPED]["peak_rss_mb"], 2)
    seen["busy cores, best"] = round(
        ours["examples_per_processor_second"] / max(t["examples_per_processor_second"] for t in trl.values()), 2
    )
    seen["utilisation"] = ours.get("utilisation", 0.0)
    seen["largest difference of held-out loss"] = round(max(_apart(ours, other) for other in trl.values()), 5)
    holds = {
        name: (seen[name] <= bound if name == "memory" else seen[name] >= bound)
        for name, bound in BOUNDS.get((shape, method), {}).items()
        if name in seen
    }
    holds["same held-out loss"] = seen["largest difference of held-out loss"] <= LOSS_TOLERANCE
    return {**seen, "bounds": BOUNDS.get((shape, method), {}), "holds": holds}


def _ratio(ours: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return round(ours["examples_per_second"] / other["examples_per_second"], 2)


def _apart(ours: Mapping[str, Any], other: Mapping[str, Any]) -> float:
    return abs(ours["held_out_loss"] / other["held_out_loss"] - 1)


def table(title: str, found: Mapping[str, Mapping[str, Any]]) -> str:
    """The rows of one shape and method, for people."""
    columns = {
        "ex/s": "examples_per_second",
        "tok/s": "tokens_per_second",
        "ex/busy core s": "examples_per_processor_second",
        "MB": "peak_rss_mb",
        "held-out": "held_out_loss",
        "of matrix rate": "utilisation",
        "spread": "spread",
    }
    lines = ["", f"{title:<38}" + "".join(f"{name:>16}" for name in columns)]
    for name, values in found.items():
        shown = values["failed"] if "failed" in values else "".join(f"{values.get(key, ''):>16}" for key in columns.values())
        lines.append(f"  {name:<36}{shown}")
    return "\n".join(lines)


def compare(shape: str, method: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All contenders and both matrix rates in turns; medians and verdicts."""
    from benchmarks.trl_sides import OURS, SETTINGS

    steps, warm = QUICK_STEPS if options.quick else STEPS[shape]
    repeats = 1 if options.quick else options.repeats
    threads = {**{name: count for name, (count, _) in OURS.items()}, **{name: setting.threads for name, setting in SETTINGS.items()}}
    chosen = [name for name in threads if not options.only or name == OUR_NAME or any(part in name for part in options.only)]
    runs: dict[str, list[dict[str, Any]]] = {name: [] for name in (*FORMATS, *chosen)}
    shared = ["--shapes", shape, "--methods", method, "--folder", str(folder), "--steps", str(steps), "--warm", str(warm)]
    shared += ["--quick"] if options.quick else []
    for turn in range(repeats):
        for name, kept in runs.items():
            # What could not be done once is not tried again.
            if turn == 0 or "failed" not in kept[0]:
                kept.append(run_apart(["--part", name, *shared], threads.get(name, 2), options.limit))
                print(f"  {shape} {method} {name}: {json.dumps(kept[-1])}", flush=True)
    rates = {name: [run for run in runs[name] if "failed" not in run] for name in FORMATS}
    # Ours says what it chose; what failed is compared with nothing.
    formats = {
        name: SETTINGS[name].number_format if name in SETTINGS else str(runs[name][0].get("number_format", FORMATS[0])) for name in chosen
    }
    found = {name: summary(runs[name], rates[formats[name]]) for name in chosen}
    same_task = [name for name, setting in SETTINGS.items() if not setting.all_tokens]
    result: dict[str, Any] = {"steps": steps, "warm steps": warm, "runs": repeats}
    result |= {f"matrix GFLOP/s {name}": median([rate["gflops"] for rate in some], 1) for name, some in rates.items() if some}
    result |= {"contenders": found, "verdict": verdicts(shape, method, found, same_task)}
    print(table(f"{shape}, {method}", found))
    print("  " + json.dumps(result["verdict"]), flush=True)
    return result


def parse(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """The options; the last five are for the processes that this one starts."""
    parser = argparse.ArgumentParser(description="Training beside TRL, on this CPU")
    parser.add_argument("--quick", action="store_true", help="few steps, one run each, no baseline")
    parser.add_argument("--shapes", nargs="+", default=list(SHAPES), choices=[*SHAPES, "tiny"])
    parser.add_argument("--methods", nargs="+", default=list(METHODS), choices=METHODS)
    parser.add_argument("--only", nargs="+", default=[], help="settings of TRL whose names hold one of these words; no baseline")
    parser.add_argument("--repeats", type=int, default=REPEATS)
    parser.add_argument("--limit", type=float, default=3600.0, help="seconds that one run may take")
    for name in ("--part", "--folder", "--steps", "--warm"):
        parser.add_argument(name, type={"--part": str, "--folder": Path}.get(name, int), help=argparse.SUPPRESS)
    return parser.parse_args(arguments)


def main() -> None:
    """Measure and record, or be one of the parts."""
    options = parse()
    if options.part:
        print(json.dumps(one_part(options)))
        return
    missing = [name for name in ("trl", "datasets") if importlib.util.find_spec(name) is None]
    if missing:
        raise SystemExit(f"This benchmark needs {' and '.join(missing)}: pip install -c constraints.txt -e '.[bench]'")
    print(f"{machine()['processor']}: {bfloat16_instructions()}", flush=True)
    with tempfile.TemporaryDirectory(prefix="luthier-bench-") as place:
        for shape in options.shapes:
            results = of_shape(shape, Path(place) / shape, options)
            if not options.quick and not options.only and options.methods == list(METHODS) and shape in SHAPES:
                path = BASELINES / f"{os.cpu_count()}cpu-trl-{shape}.json"
                path.write_text(json.dumps({"setup": f"trl-{shape}", "machine": machine(), "results": results}, indent=2) + "\n")
                print(f"written to benchmarks/baselines/{path.name}")


def of_shape(shape: str, folder: Path, options: argparse.Namespace) -> dict[str, Any]:
    """Both methods on one shape."""
    load = os.getloadavg()[0]
    built = run_apart(["--part", "build", "--shapes", shape, "--folder", str(folder)], 2)
    if "failed" in built:
        raise SystemExit(f"The model could not be made: {built['failed']}")
    results: dict[str, Any] = {"vectors": bfloat16_instructions()}
    results |= {f"{shape}, {method}": compare(shape, method, folder, options) for method in options.methods}
    return {**results, "load average": {"at the start": round(load, 2), "at the end": round(os.getloadavg()[0], 2)}}


if __name__ == "__main__":
    main()
