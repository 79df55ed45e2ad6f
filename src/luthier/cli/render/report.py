"""The whole trace of a job, as ``luthier trace JOB`` prints it.

What it does: puts the parts in order and leaves out those of which nothing was measured. Called by ``cli/trace.py`` and
``cli/demo.py``.
"""

from collections.abc import Iterator
from typing import Any

from rich.console import Console, RenderableType
from rich.rule import Rule
from rich.text import Text

from luthier.cli.render.answers import fixed_prompts
from luthier.cli.render.curve import loss_curve
from luthier.cli.render.epochs import epoch_table
from luthier.cli.render.forecast import checked_table, forecast_line
from luthier.cli.render.prediction import prediction
from luthier.cli.render.range_test import range_table
from luthier.cli.render.stages import stages
from luthier.cli.render.text import literal, number, plain, seconds, size
from luthier.cli.render.work import work_line
from luthier.trace.view import TraceView

MAX_WIDTH = 120


def print_report(console: Console, view: TraceView) -> None:
    """Print everything that is known of the job."""
    width = min(console.width, MAX_WIDTH)
    for part in report(view, width):
        console.print(part, width=width)


def report(view: TraceView, width: int) -> Iterator[RenderableType]:
    """The parts, in order."""
    yield headline(view)
    yield _title("Data flow: five stages")
    yield stages(view)
    steps = view.ordered_steps()
    if steps:
        yield _title("Training trace")
        if view.spec is not None:
            yield _spec_line(view)
        if view.range_test is not None:
            yield range_table(view.range_test)
        if view.forecast is not None and view.forecast_checked is None:
            yield forecast_line(view.forecast)
        work = work_line(steps)
        if work is not None:
            yield work
        yield loss_curve(steps, view.ordered_epochs(), width=width)
        if view.epochs:
            yield epoch_table(view)
    if view.answers:
        yield _title(
            "Fixed prompts: "
            + ("held-out" if view.answers[max(view.answers)].held_out else "training")
            + " rows, answered after each epoch"
        )
        yield fixed_prompts([view.answers[epoch] for epoch in sorted(view.answers)])
    if view.evaluation is not None:
        yield _title("Evaluation: base beside tuned, on held-out examples")
        yield evaluation_lines(view.evaluation)
    if view.prediction is not None:
        yield _title("Prediction trace: one real prediction")
        yield prediction(view.prediction)
    yield from _ending(view)


def _title(text: str) -> Rule:
    return Rule(Text(text, style="bold"), align="left")


def headline(view: TraceView) -> Text:
    """Job, asked model, open model, and how it stands."""
    text = Text("Job ", style="bold").append_text(literal(view.run or "?"))
    if view.started is not None:
        text.append("  model ").append_text(literal(view.started.model))
        if view.started.base != view.started.model:
            text.append(", trained on the open model ").append_text(literal(view.started.base, "bold"))
    if view.finished is not None:
        text.append("  ").append_text(literal(view.finished.status, "bold green" if view.finished.status == "succeeded" else "bold red"))
    for step in view.resumed_from:
        text.append(f"\nresumed after step {step}", style="yellow")
    return text


def _spec_line(view: TraceView) -> Text:
    assert view.spec is not None
    spec, trainable, total = view.spec.spec, view.spec.trainable_parameters, view.spec.total_parameters
    text = Text(f"{plain(spec.get('method'))}: {trainable:,} trainable of {total:,} parameters; ")
    text.append(f"{spec.get('n_epochs')} epochs x {spec.get('steps_per_epoch')} steps, batch {spec.get('batch_size')}, ")
    text.append(f"peak learning rate {float(spec.get('learning_rate') or 0.0):.2g}, seed {spec.get('seed')}")
    for decision in view.spec.decisions:
        text.append(f"\n  {plain(decision['name'])} = {_decided(decision['value'])}  ", style="")
        text.append_text(literal(decision["reason"], "dim"))
    return text


def _decided(value: float | str) -> str:
    return plain(value) if isinstance(value, str) else f"{float(value):g}"


def evaluation_lines(found: dict[str, Any]) -> Text:
    """Losses, accuracies, exact matches and the verdict counts."""
    base, tuned = found["base"], found["tuned"]
    n = int(found["n"])
    text = Text()
    for label, key, digits in (("loss", "loss", 2), ("token accuracy", "accuracy", 2)):
        text.append(f"{label:<16} base {number(base.get(key), digits)}   tuned {number(tuned.get(key), digits)}\n")
    hits = [round(float(side.get("exact_match", 0.0)) * n) for side in (base, tuned)]
    text.append(f"{'exact answers':<16} base {hits[0]} of {n}   tuned {hits[1]} of {n}\n")
    if found.get("preference") is not None:
        text.append_text(_preference_lines(found["preference"]))
    text.append(f"tuned is better on {found['better']}, worse on {found['worse']}, same on {found['same']} of {n}", style="bold")
    return text


def _preference_lines(found: dict[str, Any]) -> Text:
    """Which answer of the held-out pairs is the likelier one, and the rewards against the model that tuning started from."""
    base, tuned = found["base"], found["tuned"]
    text = Text()
    text.append(f"{'prefers right':<16} base {base['prefers']:.0%}   tuned {tuned['prefers']:.0%} of {found['n']} pairs\n")
    text.append(
        f"{'reward margin':<16} tuned {number(tuned['reward_margin'], 2)}, above 0 in {tuned['reward_accuracy']:.0%} of the pairs\n"
    )
    return text


def _ending(view: TraceView) -> Iterator[RenderableType]:
    if view.forecast_checked is not None:
        yield _title("Forecast beside actual")
        yield checked_table(view.forecast_checked)
    if view.published is not None:
        published = view.published
        line = Text("Model ", style="bold").append_text(literal(published.model_name, "bold green"))
        line.append(
            f"  {size(published.bytes)}, loaded in {seconds(published.load_seconds)}, first token after "
            f"{seconds(published.first_token_seconds)}, {published.tokens_per_second:.0f} tokens/s"
        )
        yield line
    for notice in view.notices:
        yield literal(f"{notice.level}: {notice.message}", "yellow" if notice.level != "info" else "dim")
    if view.finished is not None and view.finished.error:
        yield Text("Error: ", style="bold red").append_text(literal(view.finished.error.get("message", "")))
