"""What an epoch of a preference run means, in plain words: the rules of ``observations.py`` for jobs that learn from pairs.

What it does: one table, read like the other. What it does not: know anything but the run's own measures. Called by
``observations.py``.

``prefers`` is the share of pairs whose preferred answer is the likelier one; it has a value before the first step too, which the
reward accuracy has not where there is a reference: there every reward is 0. A margin without a reference (ORPO's) begins anywhere, and
is judged by how far it has come.
"""

from luthier.trace.facts import Facts, Rule

# The preferred answers lost this share of their log-probability (and a nat at least) while the model learned to prefer them.
FALL_SHARE = 0.10
FALL_NATS = 1.0
# A held-out margin that is this share below the best epoch's, while the training margin still grows, is worth a word.
MARGIN_SHARE = 0.10
UNMOVED_MARGIN = 0.01


def _held_out(f: Facts) -> dict[str, float] | None:
    return f.row.valid_preference


def _shown(f: Facts) -> dict[str, float]:
    """Held-out pairs where there are any, else those that were trained on."""
    return f.row.valid_preference or f.row.preference or {}


def _comparable(f: Facts) -> dict[str, float] | None:
    """The start on the same pairs: the base is measured on held-out pairs, or without them on training pairs."""
    if f.base is None or f.base.held_out != (f.row.valid_preference is not None):
        return None
    return f.base.preference


def _come(measures: dict[str, float], f: Facts) -> float:
    """How far a margin is from where it started."""
    before = _comparable(f)
    return measures["reward_margin"] - (before["reward_margin"] if before else 0.0)


def _prefers(f: Facts) -> str:
    where = "held-out pairs" if f.row.valid_preference else "training pairs"
    now, before = _shown(f), _comparable(f)
    start = f", {before['prefers']:.0%} before" if before else ""
    return f"finds the preferred answer the likelier one in {now['prefers']:.0%} of the {where}{start}"


def _margin(f: Facts) -> str:
    now = _shown(f)
    return f"reward margin {now['reward_margin']:.2f}, accuracy {now['reward_accuracy']:.0%}"


def _falls(f: Facts) -> bool:
    now, before = _shown(f), _comparable(f)
    if not before or now["reward_margin"] <= 0:
        return False
    return before["logp_chosen"] - now["logp_chosen"] > max(FALL_NATS, FALL_SHARE * abs(before["logp_chosen"]))


def _say_falls(f: Facts) -> str:
    before = _comparable(f)
    assert before is not None
    return (
        f"{_prefers(f)}; but the preferred answers themselves became less likely (log-probability {before['logp_chosen']:.1f} -> "
        f"{_shown(f)['logp_chosen']:.1f}): the other answers only fell further. If answers get worse, use a smaller "
        "learning_rate_multiplier, a larger beta, or tune on the preferred answers first"
    )


def _overfits(f: Facts) -> bool:
    now, earlier = _held_out(f), [r for r in f.rows[:-1] if r.valid_preference and r.preference]
    if not now or not earlier or not f.row.preference:
        return False
    best = max(_come(r.valid_preference, f) for r in earlier if r.valid_preference)
    trained = (earlier[-1].preference or {})["reward_margin"]
    return _come(now, f) < best * (1 - MARGIN_SHARE) and f.row.preference["reward_margin"] > trained


def _say_overfits(f: Facts) -> str:
    best = max((r for r in f.rows[:-1] if r.valid_preference), key=lambda r: (r.valid_preference or {})["reward_margin"])
    assert best.valid_preference is not None
    assert f.row.preference is not None
    return (
        f"the held-out margin falls to {_shown(f)['reward_margin']:.2f} (best {best.valid_preference['reward_margin']:.2f} in epoch "
        f"{best.epoch}) while that of the training pairs rises to {f.row.preference['reward_margin']:.2f}: epoch {best.epoch} generalises "
        f"best; {_prefers(f)}"
    )


def _unmoved(f: Facts) -> bool:
    return abs(_come(_shown(f), f)) < UNMOVED_MARGIN


def _say_unmoved(f: Facts) -> str:
    return f"hardly moved from where it started ({_margin(f)}): a larger learning_rate_multiplier or more epochs; {_prefers(f)}"


def _always(f: Facts) -> bool:
    return True


def _say_prefers(f: Facts) -> str:
    unknown = "" if f.row.valid_preference else "; no held-out data, so nothing tells whether it generalises"
    return f"{_prefers(f)}; {_margin(f)}{unknown}"


RULES: tuple[Rule, ...] = (
    Rule("chosen_falls", _falls, _say_falls),
    Rule("margin_falls", _overfits, _say_overfits),
    Rule("unmoved", _unmoved, _say_unmoved),
    Rule("prefers", _always, _say_prefers),
)
