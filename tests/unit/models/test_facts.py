import json
import shutil
from pathlib import Path

import pytest

from luthier.core.errors import InvalidRequest
from luthier.models.facts import check_folder, read_facts, read_licence, revision
from tests.support.tiny_models import build, mini_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return Path(shutil.copytree(mini_folder(), tmp_path / "mini"))


def test_facts_of_the_builtin_model() -> None:
    facts = read_facts(mini_folder())
    assert (facts.family, facts.num_parameters, facts.vocab_size, facts.hidden_size, facts.num_layers) == ("llama", 8_524_032, 8192, 256, 8)
    assert (facts.max_length, facts.dtype) == (512, "bfloat16")
    assert len(facts.revision) == 64


def test_facts_of_other_namings(tmp_path: Path) -> None:
    facts = read_facts(build("gpt2", tmp_path / "gpt2"))
    assert (facts.family, facts.hidden_size, facts.num_layers, facts.max_length, facts.dtype) == ("gpt2", 32, 2, 256, "float32")


def test_the_revision_follows_contents(folder: Path) -> None:
    before = revision(folder)
    assert before == revision(mini_folder())
    (folder / "README.md").write_text("unrelated")
    assert revision(folder) == before
    (folder / "chat_template.jinja").write_text("x")
    assert revision(folder) != before


@pytest.mark.parametrize(
    ("card", "expected"),
    [
        ("---\nlicense: apache-2.0\nlanguage: en\n---\n# X\nlicense: mit\n", "apache-2.0"),
        ("---\r\nlanguage: en\r\nlicense: 'cc-by-4.0'\r\n---\r\n", "cc-by-4.0"),
        ("---\nlicense: [apache-2.0, mit] # both\n---\n", "apache-2.0, mit"),
        ("---\nlicense:\n- apache-2.0\n- mit\nlanguage:\n- en\n---\n", "apache-2.0, mit"),
        ("---\nlicense: other\nlicense_name: llama3\n---\n", "llama3"),
        ("---\nlicense: other\n---\n", "other"),
        ("---\nlicense_name: own-terms\n---\n", "own-terms"),
        ("---\nlanguage: en\n---\nlicense: mit\n", None),
        ("---\nlicense:\nlanguage: en\n---\n", None),
        ("# X\nlicense: mit\n", None),
        ("", None),
    ],
)
def test_the_licence_is_the_one_that_the_card_names(tmp_path: Path, card: str, expected: str | None) -> None:
    (tmp_path / "README.md").write_bytes(card.encode())
    assert read_licence(tmp_path) == expected


def test_without_a_readable_card_there_is_no_licence(tmp_path: Path) -> None:
    assert read_licence(tmp_path) is None
    (tmp_path / "README.md").write_bytes(b"---\nlicense: \xff\n---\n")
    assert read_licence(tmp_path) is None


def _config(folder: Path, **changes: object) -> None:
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def _pickle_only(folder: Path) -> None:
    (folder / "model.safetensors").rename(folder / "pytorch_model.bin")


def _linked(folder: Path) -> None:
    (folder / "tokenizer_config.json").unlink()
    (folder / "tokenizer_config.json").symlink_to(mini_folder() / "tokenizer_config.json")


@pytest.mark.parametrize(
    ("damage", "sentence"),
    [
        (lambda f: (f / "config.json").unlink(), "config.json is missing"),
        (lambda f: (f / "config.json").write_text("{"), "not valid JSON"),
        (lambda f: (f / "config.json").write_text("[]"), "JSON object"),
        (lambda f: (f / "tokenizer.json").unlink(), "no tokenizer.json"),
        (lambda f: (f / "model.safetensors").unlink(), "no \\*.safetensors"),
        (_pickle_only, "pickled weights only"),
        (_linked, "symbolic link"),
        (lambda f: _config(f, auto_map={"AutoModel": "x.Y"}), "remote code"),
        (lambda f: _config(f, text_config={"auto_map": {"AutoModel": "x.Y"}}), "remote code"),
        (lambda f: _config(f, model_type="llama\nimport os"), "model_type"),
        (lambda f: _config(f, model_type=None), "model_type"),
        (lambda f: shutil.rmtree(f), "does not exist"),
    ],
)
def test_unsafe_or_incomplete_folders_are_refused(folder: Path, damage, sentence: str) -> None:
    damage(folder)
    with pytest.raises(InvalidRequest, match=sentence) as caught:
        check_folder(folder)
    assert str(folder.parent) not in caught.value.message


@pytest.mark.parametrize("keep", [0, 4, 100, -1])
def test_torn_weights_are_refused(folder: Path, keep: int) -> None:
    weights = folder / "model.safetensors"
    weights.write_bytes(weights.read_bytes()[:keep])
    with pytest.raises(InvalidRequest, match="not a complete safetensors"):
        read_facts(folder)
