"""Jobs share the tokens of a file: the second one reads what the first one made, and trains on exactly the same."""

import shutil
import threading
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from luthier.chat.renderer import Renderer
from luthier.core.errors import StorageFull, Unavailable
from luthier.core.examples import Dataset
from luthier.core.settings import Settings
from luthier.core.stage import Stage
from luthier.data.stage import collect
from luthier.models.facts import read_facts
from luthier.preprocessing.cache import TokenCache
from luthier.preprocessing.parallel import processes_for
from luthier.preprocessing.stage import prepare
from luthier.trace.events import Notice, StageFinished
from luthier.trace.tracer import Tracer
from luthier.worker import token_cache
from luthier.worker.context import RunContext
from luthier.worker.pipelines import Data, preprocess
from luthier.worker.start import Start
from luthier.worker.token_cache import Progress, cache_key, tokens_of
from tests.support.examples import chat_file
from tests.support.mini import MINI
from tests.support.token_rows import as_values


class Job:
    """What preprocessing asks of a job's context, with a log to look at."""

    def __init__(self, folder: Path, *, skip_untrained: bool = False, **settings) -> None:
        self.job = SimpleNamespace(options={"skip_untrained": skip_untrained})
        self.settings = Settings(data_dir=folder, **settings)
        self.events = []
        self.tracer = Tracer("job", [self.events.append])
        self.should_stop = threading.Event().is_set

    def notices(self) -> list[tuple[str, str]]:
        return [(e.payload.level, e.payload.message) for e in self.events if isinstance(e.payload, Notice)]

    def report(self) -> StageFinished:
        return next(e.payload for e in self.events if isinstance(e.payload, StageFinished))

    def tokens(self, dataset: Dataset, start: Start, max_length: int = 256):
        context: RunContext = self  # type: ignore[assignment]
        return tokens_of(context, dataset, start, max_length=max_length, role="training")

    def preprocess(self, dataset: Dataset, start: Start):
        context: RunContext = self  # type: ignore[assignment]
        return preprocess(context, Data(training=dataset, validation=None), start, 256)


@pytest.fixture(scope="module")
def start():
    facts = read_facts(MINI)
    return Start(folder=MINI, adapter=None, facts=facts, renderer=Renderer.load(MINI), revision=facts.revision)


@pytest.fixture
def dataset(tmp_path):
    path = tmp_path / "chat.jsonl"
    path.write_bytes(chat_file(30))
    return collect("file-A", path, role="training", max_line_bytes=100_000, sha256="")


class NoRenderer:
    """Stands where tokens must not be made again."""

    template_source = None

    def in_bulk(self, *_):
        raise AssertionError("tokenized again")

    def examples(self, *_, **__):
        raise AssertionError("tokenized again")


def test_the_second_job_reads_what_the_first_one_made(tmp_path, dataset, start):
    first, second = Job(tmp_path / "data"), Job(tmp_path / "data")
    made = first.tokens(dataset, start)
    template = start.renderer.template_source
    again = second.tokens(dataset, replace(start, renderer=type("R", (NoRenderer,), {"template_source": template})()))
    assert (made.reused, again.reused) == (False, True)
    assert first.notices() == []
    ((level, text),) = second.notices()
    assert level == "info"
    assert text.startswith("The training file was tokenized by an earlier job: 30 examples read from the token cache in ")
    plain = prepare(dataset, start.renderer, max_length=256, role="training")
    for tokens in (made.prepared, again.prepared):
        assert [as_values(e) for e in tokens.examples] == [as_values(e) for e in plain.examples]
        assert (tokens.num_tokens, tokens.num_trained, tokens.num_truncated) == (plain.num_tokens, plain.num_trained, plain.num_truncated)
        order = [list(p.epoch_batches(batch_size=4, seed=1, epoch=1)) for p in (tokens, plain)]
        assert order[0] == order[1]


def test_the_stage_says_that_tokens_were_reused_and_how_full_packing_is(tmp_path, dataset, start):
    first, second = Job(tmp_path / "data"), Job(tmp_path / "data")
    first.preprocess(dataset, start)
    second.preprocess(dataset, start)
    assert first.report().did.startswith("rendered through the model's chat template")
    assert second.report().did.startswith("taken from the token cache, where an earlier job had put them")
    assert first.report().shape_out == second.report().shape_out
    assert "packed best-fit they fill" in first.report().shape_out
    assert first.report().sample == second.report().sample != {}


def test_skipped_rows_are_told_by_the_second_job_too(tmp_path, dataset, start):
    shortest = min(e.num_tokens for e in prepare(dataset, start.renderer, max_length=256, role="training").examples)
    first, second = (Job(tmp_path / "data", skip_untrained=True).tokens(dataset, start, max_length=shortest).prepared for _ in range(2))
    assert first.num_skipped == second.num_skipped > 0
    assert first.skipped == second.skipped
    assert first.num_truncated == second.num_truncated > 0


@pytest.mark.parametrize("change", ["length", "tokenizer", "template", "rows"])
def test_whatever_changes_tokens_changes_the_key(tmp_path, dataset, start, change):
    folder = tmp_path / "base"
    shutil.copytree(MINI, folder)
    base = replace(start, folder=folder)
    key = cache_key(base, dataset, 256)
    assert key.name == cache_key(start, dataset, 256).name
    if change == "length":
        assert cache_key(base, dataset, 255).name != key.name
    elif change == "rows":
        assert cache_key(base, replace(dataset, fingerprint="cd" * 32), 256).name != key.name
    else:
        path = folder / ("tokenizer.json" if change == "tokenizer" else "chat_template.jinja")
        path.write_text((path.read_text() if path.exists() else "{{ messages }}") + "\n")
        assert cache_key(base, dataset, 256).name != key.name


def test_other_weights_with_the_same_tokenizer_share_tokens(dataset, start):
    assert cache_key(replace(start, revision="another"), dataset, 256).name == cache_key(start, dataset, 256).name


@pytest.mark.parametrize(
    ("error", "reason"),
    [(StorageFull("The disk is full; the folder was not written."), "The disk is full"), (OSError(30, "Read-only"), "Read-only")],
)
def test_a_job_goes_on_when_its_tokens_cannot_be_kept(tmp_path, dataset, start, monkeypatch, error, reason):
    def refuse(self, key, chunks, *_, **__):
        next(iter(chunks))
        raise error

    monkeypatch.setattr(TokenCache, "write", refuse)
    job = Job(tmp_path / "data")
    tokens = job.tokens(dataset, start).prepared
    assert len(tokens.examples) == 30
    ((level, text),) = job.notices()
    assert level == "warn"
    assert "could not be kept for later jobs; this one goes on without" in text
    assert reason in text


@pytest.mark.parametrize(("cores", "processes"), [(1, 1), (2, 2), (3, 2), (4, 3), (64, 8)])
def test_of_many_cores_one_is_left_for_what_is_done_with_the_tokens(cores, processes):
    assert processes_for(cores) == processes


def test_many_rows_are_tokenized_by_several_processes_into_the_same_cache(tmp_path, dataset, start, monkeypatch):
    alone = Job(tmp_path / "alone", train_threads=1).tokens(dataset, start).prepared
    monkeypatch.setattr(token_cache, "MANY_ROWS", 10)
    monkeypatch.setattr(token_cache, "tokenize_all", NoRenderer.examples)
    together = Job(tmp_path / "together", train_threads=3).tokens(dataset, start).prepared
    assert [as_values(e) for e in together.examples] == [as_values(e) for e in alone.examples]
    (one,), (other,) = ((tmp_path / name / "cache" / "tokens").iterdir() for name in ("alone", "together"))
    assert {p.name: p.read_bytes() for p in one.iterdir()} == {p.name: p.read_bytes() for p in other.iterdir()}


def test_a_limit_of_nothing_keeps_nothing(tmp_path, dataset, start):
    assert Job(tmp_path / "data", token_cache_bytes=0).tokens(dataset, start).reused is False
    assert not (tmp_path / "data").exists()


def test_long_tokenizing_says_how_far_it_is_and_short_does_not(tmp_path):
    job, now = Job(tmp_path), [0.0]
    progress = Progress(job, "training", 1000, clock=lambda: now[0])  # type: ignore[arg-type]
    for seconds, done in ((1.9, 10), (4.0, 200), (5.0, 250), (14.1, 705), (30.0, 1000)):
        now[0] = seconds
        progress(done)
    assert [text for _, text in job.notices()] == [
        "Tokenized 200 of 1,000 training examples, 50 a second; about 16 s to go.",
        "Tokenized 705 of 1,000 training examples, 50 a second; about 6 s to go.",
    ]
    assert {e.stage for e in job.events} == {Stage.PREPROCESSING}


def test_a_stop_ends_long_tokenizing_and_leaves_nothing(tmp_path, dataset, start, monkeypatch):
    job = Job(tmp_path / "data")
    job.should_stop = lambda: True
    monkeypatch.setattr(token_cache, "FIRST_REPORT_SECONDS", 0.0)
    with pytest.raises(Unavailable):
        job.tokens(dataset, start)
    assert list((tmp_path / "data" / "cache" / "tokens").iterdir()) == []
