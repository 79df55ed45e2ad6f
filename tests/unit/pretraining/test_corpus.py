"""The corpus: faults have a sentence, held-out documents stay out."""

from pathlib import Path

import pytest

from pretraining import corpus, tokenizer
from pretraining.errors import PretrainingError, run_script


def test_a_whole_corpus_is_accepted(corpus_folder: Path) -> None:
    corpus.verify(corpus_folder)


def test_a_missing_folder_and_a_missing_file_are_named(corpus_folder: Path) -> None:
    with pytest.raises(PretrainingError, match=r"does not exist\. Give it with --corpus"):
        corpus.verify(corpus_folder / "nowhere")
    (corpus_folder / "text_fr.txt.xz").unlink()
    with pytest.raises(PretrainingError, match=r"text_fr\.txt\.xz is missing"):
        corpus.verify(corpus_folder)


def test_a_truncated_file_is_told_from_another_one(corpus_folder: Path) -> None:
    path = corpus_folder / "enfr_pairs.tsv.xz"
    content = path.read_bytes()
    path.write_bytes(content[:-10])
    with pytest.raises(PretrainingError, match="is cut short"):
        corpus.verify(corpus_folder)
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(PretrainingError, match="its SHA-256 differs"):
        corpus.verify(corpus_folder)


def test_a_fault_ends_the_script_with_its_sentence_and_exit_code_2(
    corpus_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (corpus_folder / "text_en.index.tsv").unlink()
    work = tmp_path / "fresh"
    monkeypatch.setattr("sys.argv", ["tokenizer", "--corpus", str(corpus_folder), "--work", str(work)])
    with pytest.raises(SystemExit) as end:
        run_script(tokenizer.main)
    assert end.value.code == 2
    assert "text_en.index.tsv is missing" in capsys.readouterr().err
    assert not work.exists()


def test_held_out_and_trained_documents_are_all_documents_and_share_none(corpus_folder: Path) -> None:
    held = corpus.heldout_text(corpus_folder, "en")
    trained = [text for _, text in corpus.documents(corpus_folder, "en", held_out=False)]
    assert held
    assert len(held) + len(trained) == 120
    assert not set(held) & set(trained)
