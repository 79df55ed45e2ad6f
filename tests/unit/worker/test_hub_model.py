"""Which model of the hub is meant, which of its files are fetched, and what one file costs when the line breaks."""

from collections.abc import Iterator
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest, StorageFull, Unavailable
from luthier.worker.hub_download import alone_in, fetch, present_bytes
from luthier.worker.hub_model import HubFile, HubModel, choose_files, look_up, parse_source
from tests.support.hub_server import FakeHub, HubRepo, fake_hub, point_at

WEIGHTS = bytes(range(256)) * 1000


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[FakeHub]:
    files = {"config.json": b"{}", "tokenizer.json": b"{}", "model.safetensors": WEIGHTS, "chat_template.jinja": b""}
    with fake_hub({"acme/tiny": HubRepo(files=files, branches=("main", "v2"))}) as running:
        point_at(monkeypatch, running.url)
        monkeypatch.setenv("HF_HUB_DISABLE_IMPLICIT_TOKEN", "1")
        yield running


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("acme/tiny", ("acme/tiny", None)),
        ("acme/tiny-0.6B@main", ("acme/tiny-0.6B", "main")),
        ("hf://acme/tiny@refs/pr/1", ("acme/tiny", "refs/pr/1")),
        ("hf://gpt2", ("gpt2", None)),
        ("gpt2", None),
        ("a/b/c", None),
        ("../tiny", None),
        ("acme/tiny@", None),
        ("acme/\x1b[31m", None),
        ("https://example.org/x", None),
    ],
)
def test_what_is_a_hub_id(text: str, expected: tuple[str, str | None] | None) -> None:
    found = parse_source(text)
    assert (None if found is None else (found.repo, found.revision)) == expected


def _chosen(*names: str) -> set[str]:
    return {file.name for file in choose_files([HubFile(name=n, num_bytes=1, sha256=None) for n in names], "acme/tiny")}


NEEDED = ("config.json", "tokenizer.json")


def test_only_what_a_causal_language_model_needs_is_fetched() -> None:
    parts = ("model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors")
    small = ("tokenizer_config.json", "model.safetensors.index.json", "chat_template.jinja", "tokenizer.model", "merges.txt", "README.md")
    other = (
        "consolidated.safetensors",
        "original/model.safetensors",
        "onnx/model.onnx",
        "m.gguf",
        "pytorch_model.bin",
        "modeling_x.py",
        "a.png",
    )
    odd = (".gitattributes", "..json", "../x.json", "a\x1b.json", "pytorch_model.bin.index.json")
    assert _chosen(*NEEDED, *parts, *small, *other, *odd) == {*NEEDED, *parts, *small}
    assert _chosen(*NEEDED, *parts, "model.safetensors") == {*NEEDED, "model.safetensors"}
    assert _chosen(*NEEDED, "weights.safetensors") == {*NEEDED, "weights.safetensors"}


@pytest.mark.parametrize(
    ("names", "sentence"),
    [
        ((*NEEDED, "pytorch_model.bin"), r"\.bin weights only"),
        (("model.Q4.gguf",), r"\.gguf weights only"),
        (NEEDED, "holds no weights"),
        (("config.json", "model.safetensors"), r"no tokenizer\.json"),
        (("tokenizer.json", "model.safetensors"), r"no config\.json"),
    ],
)
def test_what_is_no_base_model_is_refused_in_words(names: tuple[str, ...], sentence: str) -> None:
    with pytest.raises(InvalidRequest, match=sentence):
        _chosen(*names)


def _model() -> HubModel:
    source = parse_source("acme/tiny@v2")
    assert source is not None
    return look_up(source)


def _weights(model: HubModel) -> HubFile:
    return model.files[-1]


def test_the_hub_is_asked_once_and_its_answer_pins_the_commit(hub: FakeHub) -> None:
    model = _model()
    assert model.address == f"hf://acme/tiny@{hub.repos['acme/tiny'].commit}"
    assert (model.licence, model.num_bytes) == ("apache-2.0", len(WEIGHTS) + 4)
    assert [file.name for file in model.files][-1] == "model.safetensors"
    assert hub.requests == []


def test_a_broken_line_is_taken_up_where_it_broke(hub: FakeHub, tmp_path: Path) -> None:
    model, told = _model(), []
    hub.break_after = 100_000
    path = fetch(model, _weights(model), tmp_path, told.append, pause=0.0)
    assert path.read_bytes() == WEIGHTS
    assert sum(told) == len(WEIGHTS)
    ranges = [asked for name, asked, _ in hub.requests if name.startswith("storage")]
    assert ranges == [None, "bytes=100000-"]
    assert list(tmp_path.iterdir()) == [path]


def test_a_part_from_an_earlier_run_is_gone_on_with(hub: FakeHub, tmp_path: Path) -> None:
    model, weights = _model(), _weights(_model())
    (tmp_path / "model.safetensors.part").write_bytes(WEIGHTS[:70_000])
    assert present_bytes(weights, tmp_path) == 70_000
    told: list[int] = []
    assert fetch(model, weights, tmp_path, told.append).read_bytes() == WEIGHTS
    assert sum(told) == len(WEIGHTS) - 70_000
    assert hub.requests[-1][1] == "bytes=70000-"
    hub.requests.clear()
    fetch(model, weights, tmp_path, told.append)
    assert hub.requests == []


def test_a_part_with_other_bytes_is_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    model = _model()
    (tmp_path / "model.safetensors.part").write_bytes(b"x" * 70_000)
    with pytest.raises(Unavailable, match="arrived damaged"):
        fetch(model, _weights(model), tmp_path, lambda _: None)
    assert fetch(model, _weights(model), tmp_path, lambda _: None).read_bytes() == WEIGHTS


def test_a_part_that_is_too_long_is_fetched_anew(hub: FakeHub, tmp_path: Path) -> None:
    model = _model()
    (tmp_path / "model.safetensors.part").write_bytes(b"x" * (len(WEIGHTS) + 5))
    assert fetch(model, _weights(model), tmp_path, lambda _: None).read_bytes() == WEIGHTS


def test_a_damaged_file_is_thrown_away(hub: FakeHub, tmp_path: Path) -> None:
    model, hub.damage = _model(), True
    with pytest.raises(Unavailable, match="arrived damaged"):
        fetch(model, _weights(model), tmp_path, lambda _: None)
    assert list(tmp_path.iterdir()) == []


def test_a_hub_that_is_gone_ends_after_a_few_attempts(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model()
    point_at(monkeypatch, "http://127.0.0.1:9")
    with pytest.raises(Unavailable, match="cannot be reached"):
        fetch(model, _weights(model), tmp_path, lambda _: None, pause=0.0)


def test_a_full_disk_is_said_at_once(hub: FakeHub, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    model = _model()
    monkeypatch.setattr("luthier.worker.hub_download._write", full)
    with pytest.raises(StorageFull, match="disk is full"):
        fetch(model, _weights(model), tmp_path, lambda _: None, pause=0.0)
    assert len([name for name, _, _ in hub.requests if name.startswith("storage")]) == 1


def test_one_process_fetches_at_a_time(tmp_path: Path) -> None:
    with alone_in(tmp_path / "x"), pytest.raises(InvalidRequest, match="Another command"), alone_in(tmp_path / "x"):
        pass
