"""Held-out pairs of the embedded base with an adapter, by loss on pairs and share of the supervised rate.

From it comes which losses ``rates.rate_share`` makes slower.

Run by hand from the repository's root: ``python -m experiments.preference_rates orpo 0.1,0.3,1``.
"""

import sys
import tempfile
from dataclasses import replace
from pathlib import Path

from experiments.optimizer_rates import FACTS
from luthier.chat.renderer import Renderer
from luthier.core.specs import Hyperparameters, LuthierOptions, ObjectiveKind
from luthier.data.stage import collect
from luthier.preprocessing.stage import Prepared, prepare
from luthier.training.loop import Trainer
from luthier.training.rates import rate_share
from luthier.training.resolve import resolve
from tests.support.mini import MINI, load_mini
from tests.support.trainable_model import Recorder

LENGTH = 256
NEVER = 10**6
PAIRS = Path("examples") / "formality-dpo"


def rows(name: str) -> Prepared:
    """An example's file as tokens."""
    whole = collect("file", PAIRS / name, role="training", max_line_bytes=1 << 20, sha256="", method="dpo")
    return prepare(whole, Renderer.load(MINI), max_length=LENGTH, role="training")


def main() -> None:
    """Print one line for each share."""
    loss, shares = ObjectiveKind(sys.argv[1]), [float(word) for word in sys.argv[2].split(",")]
    train, valid = rows("train.jsonl"), rows("valid.jsonl")
    facts = replace(FACTS, num_examples=train.num_examples, objective=ObjectiveKind.DPO)
    asked = Hyperparameters(n_epochs=3, batch_size=4)
    spec, _ = resolve(asked, LuthierOptions(preference_loss=loss), facts, max_length=LENGTH)
    for share in shares:
        rate = spec.learning_rate / rate_share(loss) * share
        hooks = Recorder()
        with tempfile.TemporaryDirectory() as folder:
            Trainer(load_mini(), replace(spec, learning_rate=rate, validation_every=NEVER), train, valid, hooks, Path(folder)).run()
        for epoch, report in [(0, hooks.base[0].preference), *((e.epoch, e.valid_preference) for e in hooks.epochs)]:
            found = report or {}
            numbers = ", ".join(f"{name} {found[name]:.3f}" for name in ("prefers", "reward_margin", "logp_chosen", "logp_rejected"))
            print(f"{loss.value} x {share:g}: rate {rate:.2e}, epoch {epoch}: {numbers}", flush=True)


if __name__ == "__main__":
    main()
