"""Rows for several runs on the embedded model: each has other ones."""

from collections.abc import Sequence
from dataclasses import replace

from luthier.chat.renderer import Renderer
from luthier.data.stage import collect
from luthier.preprocessing.stage import Prepared, prepare
from tests.support.examples import EXAMPLES
from tests.support.mini import MINI

EACH = 6


def rows_of_runs(names: Sequence[str]) -> dict[str, Prepared]:
    """Six rows of an example's training file for each run, one after the other."""
    whole = collect("file-A", EXAMPLES / "train.jsonl", role="training", max_line_bytes=1 << 20, sha256="")
    renderer = Renderer.load(MINI)
    parts = {name: replace(whole, examples=whole.examples[at * EACH : (at + 1) * EACH], num_lines=EACH) for at, name in enumerate(names)}
    return {name: prepare(part, renderer, max_length=64, role="training") for name, part in parts.items()}
