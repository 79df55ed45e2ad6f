"""Losses of rows equal those of the trainer's own measure; the sample follows from the seed alone."""

import json
from itertools import count
from pathlib import Path

import pytest
import torch

from luthier.core.errors import InvalidRequest
from luthier.core.examples import SourceLine
from luthier.core.tokens import Rendered, TokenizedExample
from luthier.data.chosen_lines import check_lines, count_lines
from luthier.models.load import load_model
from luthier.preprocessing.batches import collate
from luthier.preprocessing.sequences import sequences_of
from luthier.preprocessing.stage import Prepared
from luthier.training.evaluate import measure
from luthier.training.sft import sft_sums
from luthier.worker.base_folder import FoundModel
from luthier.worker.row_losses import RowLosses, row_losses, sample_order
from luthier.worker.row_preview import load_reader
from tests.support.mini import load_mini, save_adapter
from tests.support.tiny_models import build, mini_folder

CAP = 8 * 1024 * 1024
EXAMPLES = Path(__file__).resolve().parents[3] / "examples"
MINI = FoundModel(name="luthier-mini", folder=mini_folder())


def _first(name: str, number: int, folder: Path) -> Path:
    path = folder / "rows.jsonl"
    path.write_text("".join((EXAMPLES / name / "train.jsonl").read_text(encoding="utf-8").splitlines(keepends=True)[:number]))
    return path


def _losses(path: Path, model: FoundModel = MINI, **changes) -> RowLosses:
    return row_losses(path, model, **({"seed": 1, "max_line_bytes": CAP, "budget_seconds": 1e9} | changes))


def _alone(path: Path, model: FoundModel = MINI, adapter: Path | None = None) -> dict[int, tuple[float, float, int]]:
    """Line -> loss, accuracy and trained tokens of each row alone, by the trainer's measure."""
    torch.set_num_threads(1)
    loaded, reader = load_model(model.folder), load_reader(model.folder, asked_length=None)
    if adapter is not None:
        loaded.load_adapter("a", adapter)
    limit = int(reader.max_length.value)
    found = {}
    for line in check_lines(path, range(1, count_lines(path) + 1), method=None, max_line_bytes=CAP):
        assert line.row_format is not None
        rendered = sequences_of(line.example("f"), reader.renderer, line.row_format)[0].rendered
        item = TokenizedExample(
            source=SourceLine("f", line.number),
            rendered=Rendered(ids_T=rendered.ids_T[:limit], weights_T=rendered.weights_T[:limit]),
        )
        one = Prepared(examples=(item,), num_tokens=0, num_trained=0, num_truncated=0)
        with loaded.use_adapter(None if adapter is None else "a"):
            measured = measure(loaded, one)
        found[line.number] = (measured.loss, measured.accuracy, measured.num_tokens)
    return found


@pytest.mark.parametrize("name", ["tool-call", "translate-en-fr", "formality-dpo"])
def test_each_loss_is_what_the_trainer_measures_of_the_row_alone(name: str, tmp_path: Path) -> None:
    path = _first(name, 30, tmp_path)
    alone = _alone(path)
    losses = _losses(path)
    assert {row.line for row in losses.rows} == set(alone) == set(range(1, 31))
    for row in losses.rows:
        loss, accuracy, num_tokens = alone[row.line]
        assert row.loss == pytest.approx(loss, rel=1e-4)
        assert (row.num_correct / row.num_tokens, row.num_tokens) == (pytest.approx(accuracy), num_tokens)
    assert (losses.is_complete, losses.num_left_out, losses.statistics["num_measured"]) == (True, 0, 30)


def test_a_model_that_goes_through_transformers_and_rows_longer_than_it_reads(tmp_path: Path) -> None:
    model = FoundModel(name="tiny", folder=build("gpt2", tmp_path / "gpt2", n_positions=64))
    path = tmp_path / "long.jsonl"
    rows = [{"prompt": "Say it again.", "completion": "word " * n} for n in (3, 200, 10)]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    alone = _alone(path, model)
    for row in _losses(path, model).rows:
        assert (row.loss, row.num_tokens) == (pytest.approx(alone[row.line][0], rel=1e-4), alone[row.line][2])


def test_a_tuned_model_is_measured_with_its_adapter(tmp_path: Path) -> None:
    path = _first("translate-en-fr", 12, tmp_path)
    adapter = save_adapter(load_mini(adapter="other"), "other", tmp_path / "adapter")
    tuned, alone = _losses(path, FoundModel(name="ft", folder=mini_folder(), adapter=adapter)), _alone(path, adapter=adapter)
    assert {row.line: pytest.approx(row.loss, rel=1e-4) for row in tuned.rows} == {line: loss for line, (loss, _, _) in alone.items()}
    assert [row.loss for row in tuned.rows] != [row.loss for row in _losses(path).rows]


def test_the_order_follows_from_the_seed_and_is_uniform() -> None:
    assert sample_order(100, 7, 20) == sample_order(100, 7, 100)[:20]
    assert sorted(sample_order(100, 7, 200)) == list(range(1, 101))
    assert sample_order(100, 7, 20) != sample_order(100, 8, 20)
    assert sample_order(0, 7, 20) == []
    firsts = [sample_order(10, seed, 1)[0] for seed in range(1000)]
    assert all(60 < firsts.count(line) < 145 for line in range(1, 11))


def test_less_time_measures_the_beginning_of_the_same_order_with_the_same_losses(tmp_path: Path) -> None:
    path = _first("sentiment-label", 60, tmp_path)
    whole = _losses(path)
    ticks = count()
    part = _losses(path, budget_seconds=12.0, clock=lambda: float(next(ticks)))
    again = _losses(path, budget_seconds=0.0)
    assert 1 == len(again.rows) < len(part.rows) < len(whole.rows) == 60
    assert part.rows == whole.rows[: len(part.rows)]
    assert again.rows == whole.rows[:1]
    assert (part.is_complete, whole.is_complete, part.statistics["num_measured"]) == (False, True, len(part.rows))


def test_lines_that_cannot_be_measured_are_left_out_and_counted(tmp_path: Path) -> None:
    path = tmp_path / "mixed.jsonl"
    sound = {"messages": [{"role": "user", "content": "Hi"}, {"role": "assistant", "content": "Hello"}]}
    too_long = {"messages": [{"role": "user", "content": "word " * 600}, {"role": "assistant", "content": "lost"}]}
    lines = [json.dumps(sound), "{broken", "", json.dumps(too_long), json.dumps(sound)]
    path.write_text("\n".join(lines) + "\n")
    losses = _losses(path)
    assert {row.line for row in losses.rows} == {1, 5}
    assert (losses.num_lines, losses.num_left_out) == (5, 3)
    assert [row["line"] for row in losses.to_dict()["rows"]] == [1, 5]
    assert {row["text"] for row in losses.to_dict()["rows"]} == {"Hello"}


def test_rubbish_among_sound_rows_is_found_and_sound_rows_are_not(tmp_path: Path) -> None:
    path = _first("extract-json", 60, tmp_path)
    asked = {"role": "user", "content": "Order as JSON: Can we get three lamps for tomorrow?"}
    rubbish = ("xkq zvbn qqwrt plmok jhgfd asdf zxcv", "SGVsbG8gd29ybGQsIHRoaXMgaXMgYmFzZTY0IHRleHQ=")
    with path.open("a") as file:
        for text in rubbish:
            file.write(json.dumps({"messages": [asked, {"role": "assistant", "content": text}]}) + "\n")
    losses = _losses(path)
    (finding,) = losses.findings
    assert (finding.code, finding.lines, finding.measured_on) == ("bizarre", (61, 62), 62)
    assert {row["line"] for row in losses.to_dict()["rows"] if row["finding"] == "bizarre"} == {61, 62}


def test_an_answer_that_the_model_has_learned_by_heart_is_found(tmp_path: Path) -> None:
    path = _first("translate-en-fr", 5, tmp_path)
    model, reader = load_mini(), load_reader(mini_folder(), asked_length=None)
    (line,) = check_lines(path, [3], method=None, max_line_bytes=CAP)
    assert line.row_format is not None
    (one,) = sequences_of(line.example("f"), reader.renderer, line.row_format)
    item = TokenizedExample(source=SourceLine("f", 3), rendered=one.rendered)
    optimizer = torch.optim.AdamW([parameter.requires_grad_(True) for parameter in model.all_parameters()], lr=1e-3)
    for _ in range(12):
        optimizer.zero_grad()
        sft_sums(model, collate([item])).loss.backward()
        optimizer.step()
    (tmp_path / "tuned").mkdir()
    model.save_full(tmp_path / "tuned")
    losses = _losses(path, FoundModel(name="tuned", folder=tmp_path / "tuned"))
    found = {finding.code: finding for finding in losses.findings}
    assert 3 in found["already_predicted"].lines
    assert next(row["finding"] for row in losses.to_dict()["rows"] if row["line"] == 3) == "already_predicted"
    assert all(row.loss < 0.1 for row in losses.rows if row.line in found["already_predicted"].lines)


def test_rows_without_answers_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InvalidRequest, match="no answers"):
        _losses(_first("word-sentence-rft", 10, tmp_path), method="reinforcement")
