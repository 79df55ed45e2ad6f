"""The evaluation's command: its results file, its inputs, its judgements, and its sections on a tiny model with tiny files."""

import json
import lzma
import math
import zlib
from pathlib import Path

import pytest
import torch

from luthier.chat.renderer import Renderer
from luthier.core.specs import Hyperparameters
from luthier.engine import naive
from luthier.models.load import load_model
from pretraining import evaluate
from pretraining.corpus import HELD_OUT_SHARE
from pretraining.errors import PretrainingError, run_script
from pretraining.evaluation import base_model, readmes, reference, speed, tasks
from pretraining.evaluation.generate import chat_prompt, greedy_answers, questions_of
from pretraining.evaluation.options import Options, read_rows, write_rows
from pretraining.evaluation.results import Results
from pretraining.evaluation.supervised import same_answer
from pretraining.evaluation.tune import read_dataset
from pretraining.tokenizer import CHAT_TEMPLATE
from tests.support import tiny_models

MODEL = {"name": "tiny", "revision": "a" * 64, "num_parameters": 1}
WORDS = ("red", "blue", "green", "black", "white", "brown", "grey", "pink", "gold", "wide", "tall", "old")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    tiny = tiny_models.build("llama", tmp_path_factory.mktemp("evaluate") / "tiny")
    return tiny_models.set_template(tiny, CHAT_TEMPLATE)


def options(folder: Path, **changes) -> Options:
    plain = {"corpus": None, "tasks": None, "examples": folder, "phrases": folder / "phrases.jsonl", "seeds": (1,), "limit": None}
    return Options(model=folder, **(plain | changes))


def chat(asked: str, answer: str) -> dict:
    return {"messages": [{"role": "user", "content": asked}, {"role": "assistant", "content": answer}]}


def write_xz(path: Path, rows: list[dict]) -> None:
    path.write_bytes(lzma.compress("".join(json.dumps(row) + "\n" for row in rows).encode()))


# ------------------------------------------------------------------------------------------------------ the results file


def test_sections_are_merged_and_only_the_measured_one_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    for name, value in (("base", 1), ("tasks", 2), ("tasks", 3)):
        section = Results(path, MODEL).section(name, {"cores": 2})
        section.measured("number", lambda v=value: {"value": v})
        section.finish()
    content = json.loads(path.read_text())
    assert content["model"] == MODEL
    assert content["sections"]["base"] == {"complete": True, "machine": {"cores": 2}, "results": {"number": {"value": 1}}}
    assert content["sections"]["tasks"]["results"] == {"number": {"value": 3}}


def test_an_interrupted_section_goes_on_where_it_stopped(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    section = Results(path, MODEL).section("tasks", {})
    section.measured("a seed 1", lambda: {"value": 1})
    section.measured("a seed 9", lambda: {"value": 9})
    with pytest.raises(KeyboardInterrupt):
        section.measured("a seed 2", _interrupt)
    results = Results(path, MODEL)
    assert results.of("tasks") == {}, "an incomplete section counts as not measured"
    section = results.section("tasks", {})
    assert section.measured("a seed 1", _interrupt) == {"value": 1}
    assert section.measured("a seed 2", lambda: {"value": 2}) == {"value": 2}
    section.finish()
    assert Results(path, MODEL).of("tasks") == {"a seed 1": {"value": 1}, "a seed 2": {"value": 2}}, "seed 9 was not asked for again"


def test_results_of_another_model_or_file_are_never_mixed_in(tmp_path: Path) -> None:
    path = tmp_path / "results.json"
    Results(path, MODEL).section("base", {}).finish()
    with pytest.raises(PretrainingError, match="another model"):
        Results(path, {**MODEL, "revision": "b" * 64})
    path.write_text("[1]")
    with pytest.raises(PretrainingError, match="no file of evaluation results"):
        Results(path, MODEL)


def _interrupt() -> dict:
    raise KeyboardInterrupt


# ------------------------------------------------------------------------------------------------------ missing inputs


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--only", "base"], "Section base needs --corpus DIR."),
        (["--only", "reference", "--corpus", "{empty}"], "Section reference needs enfr_pairs.tsv.xz in {empty} (--corpus)"),
        (["--only", "tasks", "--tasks", "{empty}"], "Section tasks needs sentence_polarity_train.jsonl.xz, sentence_polarity_test"),
        (["--only", "examples", "--examples", "{empty}"], "Section examples needs train.jsonl, valid.jsonl in {empty}/sentiment-label"),
        (["--only", "speed", "--model", "{empty}/none"], "The model folder none does not exist."),
        (["--only", "speed", "--limit", "0"], "--limit must be at least 1."),
    ],
)
def test_a_missing_input_is_a_sentence_and_exit_code_2(arguments, said, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    given = [argument.format(empty=tmp_path) for argument in arguments]
    with pytest.raises(SystemExit) as stopped:
        run_script(lambda: evaluate.evaluate(evaluate.parse(given)))
    assert stopped.value.code == 2
    assert capsys.readouterr().err.startswith("error: " + said.format(empty=tmp_path))


def test_a_file_that_was_cut_short_is_named(tmp_path: Path) -> None:
    path = tmp_path / "rows.jsonl.xz"
    write_xz(path, [{"number": i} for i in range(200)])
    assert read_rows(path)[7] == {"number": 7}
    path.write_bytes(path.read_bytes()[:-20])
    with pytest.raises(PretrainingError, match=r"rows\.jsonl\.xz cannot be read"):
        read_rows(path)


# ------------------------------------------------------------------------------------------------------ answers


@pytest.mark.parametrize(
    ("answer", "expected", "same"),
    [
        (" positive\n", "positive", True),
        ("Positive", "positive", False),
        ('{"b": 1, "a": {"c": "d"}}', '{"a":{"c":"d"},"b":1}', True),
        ('{"a": true}', '{"a": 1}', False),
        ('{"a": 1} and more', '{"a": 1}', False),
        ('<|tool_call|>{"name": "f", "arguments": {"x": 1, "y": 2}}', '<|tool_call|>{"name": "f", "arguments": {"y": 2, "x": 1}}', True),
        ('{"name": "f", "arguments": {"x": 1}}', '<|tool_call|>{"name": "f", "arguments": {"x": 1}}', False),
        ('<|tool_call|>{"name": "f", "arguments": {"x": 2}}', '<|tool_call|>{"name": "f", "arguments": {"x": 1}}', False),
        ('<|tool_call|>{"name": "f"', '<|tool_call|>{"name": "f", "arguments": {}}', False),
    ],
)
def test_when_two_answers_are_the_same(answer: str, expected: str, same: bool) -> None:
    assert same_answer(answer, expected) is same


def test_answers_are_those_of_the_plainest_generation(folder: Path) -> None:
    model, renderer = load_model(folder), Renderer.load(folder)
    prompts = [chat_prompt(renderer, f"What is {word}?") for word in WORDS]
    answers = greedy_answers(model, renderer, prompts, max_tokens=6)
    for prompt, answer in zip(prompts, answers, strict=True):
        ids = naive.generate(model, prompt, max_new_tokens=6, stop_ids=renderer.stop_ids | {0})
        assert answer == renderer.tokenizer.decode(ids)


def test_a_prompt_without_room_gets_an_empty_answer(folder: Path) -> None:
    model, renderer = load_model(folder), Renderer.load(folder)
    full = [5] * model.facts.max_length
    assert greedy_answers(model, renderer, [full, [*full, 5]], max_tokens=4) == ["", ""]


def test_a_tool_call_is_asked_up_to_the_call_and_expects_it(folder: Path, tmp_path: Path) -> None:
    call = {"id": "c1", "type": "function", "function": {"name": "ring", "arguments": '{"times": 2}'}}
    tool = {
        "type": "function",
        "function": {"name": "ring", "description": "Ring a bell.", "parameters": {"type": "object", "properties": {}}},
    }
    asked = {"role": "user", "content": "Ring twice"}
    row = {"messages": [asked, {"role": "assistant", "content": None, "tool_calls": [call]}], "tools": [tool]}
    renderer = Renderer.load(folder)
    (question,) = questions_of(read_dataset(write_rows(tmp_path / "rows.jsonl", [row]), "validation"), renderer, keep_marks=True)
    assert question.expected == '<|tool_call|>{"name": "ring", "arguments": {"times": 2}}'
    assert renderer.tokenizer.decode(list(question.prompt_ids), skip_special=False).endswith("<|user|>Ring twice<|end|><|assistant|>")


# ------------------------------------------------------------------------------------------------------ the untuned model


def test_every_token_but_the_first_is_scored_once_whatever_the_window(folder: Path) -> None:
    ids = [*range(40, 75)]
    windows = base_model.windows_of(ids, 8)
    scored = [int(i) for window in windows for i in window.ids_T[window.weights_T > 0]]
    assert scored == ids[1:]
    (whole,) = base_model.windows_of(ids, 64)
    model = load_model(folder)
    loss, num_tokens, _ = base_model._sums(base_model._scored(model, [whole]))
    with torch.no_grad():
        rows_N, columns_N = torch.zeros(34, dtype=torch.long), torch.arange(34)
        logits_NV = model.logits_at(torch.tensor([ids]), torch.tensor([35]), rows_N, columns_N)
    wanted = -torch.log_softmax(logits_NV.double(), dim=-1)[columns_N, torch.tensor(ids[1:])].sum()
    assert (loss, num_tokens) == (pytest.approx(float(wanted), rel=1e-5), 34)


def test_a_sample_has_the_beginnings_of_many_documents() -> None:
    texts = base_model.sample_text(["a" * 9000, "b" * 100, "c" * 9000], 4100)
    assert sorted(len(text) for text in texts) == [100, 2000, 2000]
    assert sum(len(text) for text in base_model.sample_text(["a" * 9000] * 5, 4500)) == 4500


@pytest.fixture
def corpus(tmp_path: Path) -> Path:
    """Twelve held-out sentences, one with two translations, and a held-out document in each language."""
    rows = ["\t".join(("en", "fr", "source", "licence", "variant_rank", "variants", "split"))]
    rows += [f"It is {word}.\tC'est {word}.\tours\tApache-2.0\t1\t1\theldout_dev" for word in WORDS]
    rows += ["It is red.\tIl est red.\tours\tApache-2.0\t2\t2\theldout_dev", "Go.\tVa.\tours\tApache-2.0\t1\t1\ttrain"]
    (tmp_path / "enfr_pairs.tsv.xz").write_bytes(lzma.compress(("\n".join(rows) + "\n").encode()))
    held_out = next(name for name in map(str, range(1000)) if zlib.crc32(name.encode()) % HELD_OUT_SHARE == 0)
    for name, text in (("text_en", "The old house is tall.\n" * 40), ("text_fr", "La vieille maison est grande.\n" * 40)):
        (tmp_path / f"{name}.txt.xz").write_bytes(lzma.compress(text.encode()))
        (tmp_path / f"{name}.index.tsv").write_text(f"part\tdoc\toffset\tbytes\nours\t{held_out}\t0\t{len(text.encode())}\n")
    return tmp_path


def test_the_base_section_measures_translation_text_and_pairs(folder: Path, corpus: Path, tmp_path: Path) -> None:
    out = tmp_path / "results.json"
    evaluate.evaluate(evaluate.parse(["--only", "base", "--model", str(folder), "--corpus", str(corpus), "--out", str(out)]))
    results = json.loads(out.read_text())["sections"]["base"]["results"]
    assert results["translation"]["n"] == len(WORDS)
    assert "nrefs:var" in results["translation"]["signature"]
    first = Renderer.load(folder).tokenizer.encode_with_offsets("The old")[1][0][1]
    assert results["text en"]["n_characters"] == len("The old house is tall.\n" * 40) - 1 - first
    # A random model spends about the logarithm of its vocabulary on every token.
    per_token = results["text en"]["bits_per_character"] * results["text en"]["n_characters"] / results["text en"]["n_tokens"]
    assert per_token > 0.8 * math.log2(tiny_models.VOCAB_SIZE)
    assert results["pairs"]["french"]["n_tokens"] < results["pairs"]["row"]["n_tokens"]


def test_a_trial_with_a_limit_writes_nothing(folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "results.json"
    given = ["--only", "base", "--model", str(folder), "--corpus", str(corpus), "--out", str(out), "--limit", "2"]
    evaluate.evaluate(evaluate.parse(given))
    assert not out.exists()
    assert "nothing was written" in capsys.readouterr().out


# ------------------------------------------------------------------------------------------------------ tuned models


def test_the_tasks_section_tunes_asks_and_stores_every_run(folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    labels = [chat(f"{word} {i}", ("good", "bad")[i % 2]) for i, word in enumerate(WORDS * 2)]
    write_xz(tmp_path / "sentence_polarity_train.jsonl.xz", labels)
    write_xz(tmp_path / "sentence_polarity_test.jsonl.xz", labels[:8])
    write_xz(
        tmp_path / "clinc150_train.jsonl.xz", [chat(f"{word} {i}", label) for i in range(25) for word, label in (("go", "x"), ("no", "y"))]
    )
    write_xz(
        tmp_path / "clinc150_test.jsonl.xz", [chat(f"{word} {i}", label) for i in range(4) for word, label in (("go", "x"), ("no", "y"))]
    )
    home = [{"lang": "en", "text": f"light {i}", "intent": "On", "slots": {"number": i}, "response": "Done"} for i in range(40)]
    write_xz(tmp_path / "home_assistant_intents.jsonl.xz", home)
    sides = [
        (f"Say {i}", [{"role": "assistant", "content": f"vous {i}"}], [{"role": "assistant", "content": f"tu {i}"}]) for i in range(20)
    ]
    pairs = [
        {"input": {"messages": [{"role": "user", "content": asked}]}, "preferred_output": yes, "non_preferred_output": no}
        for asked, yes, no in sides
    ]
    write_xz(tmp_path / tasks.FORMALITY_FILE, pairs)
    chosen = options(folder, tasks=tmp_path, limit=8)
    assert tasks.missing(chosen) == []
    out = tmp_path / "results.json"
    section = Results(out, MODEL).section("tasks", {})
    tasks.run(chosen, section, Hyperparameters(n_epochs=1, batch_size=16))
    stored = json.loads(out.read_text())["sections"]["tasks"]["results"]
    assert set(stored) == {
        *(f"{task.name} {what}" for task in tasks.TASKS for what in ("base", "seed 1")),
        "sentiment bag of words",
        "intents bag of words",
        "formality seed 1",
    }
    run = stored["home seed 1"]["run"]
    assert (run["n_train"], run["steps"], run["n_epochs"], stored["home seed 1"]["n"]) == (10, 1, 1, 8)
    assert len(run["epochs"]) == 1
    assert "light" not in out.read_text(), "the results hold numbers and no text of the files"
    assert "| sentence polarity " in capsys.readouterr().out


def test_home_rows_of_one_text_are_on_one_side() -> None:
    rows = [{"text": text, "intent": "I", "slots": {}} for i in range(40) for text in (f"Text {i}", f"text {i}")]
    train, test = tasks.draw_home(rows)
    sides = [{row["messages"][0]["content"].casefold() for row in side} for side in (train, test)]
    assert not sides[0] & sides[1]
    assert (len(test), len(train)) == (20, 60)
    assert test[0]["messages"][1]["content"] == '{"intent":"I","slots":{}}'


def test_intents_are_drawn_evenly_and_tested_on_their_own_rows() -> None:
    train = [chat(f"{i} {intent}", f"intent {intent}") for intent in range(30) for i in range(25 if intent else 24)]
    test = [chat(f"test {intent}", f"intent {intent}") for intent in range(30) for _ in range(30)]
    learned, asked = tasks.draw_intents(train, test)
    labels = [row["messages"][1]["content"] for row in learned]
    assert len(set(labels)) == 20
    assert {labels.count(label) for label in labels} == {25}
    assert "intent 0" not in labels, "it has too few rows"
    assert len(asked) == 400
    assert {row["messages"][1]["content"] for row in asked} == set(labels)
    assert tasks.draw_intents(train, test) == (learned, asked)


def test_the_reference_section_prints_its_bounds(folder: Path, corpus: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    example = tmp_path / reference.FOLDER
    example.mkdir()
    rows = [{"prompt": f"Translate to French: {word}", "completion": f"le {word}"} for word in WORDS]
    write_rows(example / "train.jsonl", rows)
    write_rows(example / "valid.jsonl", rows[:2])
    phrases = write_rows(tmp_path / "phrases.jsonl", [{"phrase": word, "answers": [f"le {word}"]} for word in WORDS])
    chosen = options(folder, examples=tmp_path, phrases=phrases, corpus=corpus)
    assert reference.missing(chosen) == []
    results = Results(None, MODEL)
    section = results.section("reference", {"processor": "P", "cores": 2})
    reference.run(chosen, section)
    section.finish()
    stored = results.of("reference")
    assert set(stored) == {"base", "lora seed 1", "full seed 1"}
    assert stored["base"]["phrases"]["n"] == len(WORDS)
    assert [epoch["epoch"] for epoch in stored["full seed 1"]["run"]["epochs"]] == [1, 2, 3, 4, 5]
    said = capsys.readouterr().out
    assert "| loss falls every epoch" in said
    (example / "README.md").write_text(f"# Words\n\n{readmes.MARK}\n\nold\n\n## After\n")
    readmes.write_readmes(tmp_path, results)
    written = (example / "README.md").read_text()
    assert "old" not in written
    assert "| full   | 1 " in written
    assert written.endswith(" |\n\n## After\n")


@pytest.mark.parametrize(
    ("change", "broken"), [({}, 0), ({"first": 2.0}, 1), ({"last": 0.5}, 1), ({"right": 79}, 1), ({"seconds": 46.0}, 1)]
)
def test_bounds_hold_or_fail_one_by_one(change: dict, broken: int) -> None:
    given = {"first": 1.2, "last": 0.3, "right": 80, "seconds": 30.0} | change
    losses = [given["first"], 0.9, 0.7, 0.6, given["last"]]
    epochs = [{"train_loss": loss, "train_accuracy": 0.6 + 0.08 * at} for at, loss in enumerate(losses)]
    result = {"run": {"epochs": epochs, "seconds": given["seconds"]}, "phrases": {"right": given["right"], "n": 100}}
    found = reference.bounds({"first_phrases": {"right": 2, "n": 25}}, result)
    assert sum(not holds for _, _, holds in found) == broken


def test_what_follows_the_mark_is_replaced_up_to_the_next_heading() -> None:
    text = f"# A\n\n{readmes.MARK}\nold\n| x |\n\n# B\nkept\n"
    once = readmes.replaced(text, "new")
    assert once == f"# A\n\n{readmes.MARK}\n\nnew\n\n# B\nkept\n"
    assert readmes.replaced(once, "new") == once
    assert readmes.replaced(f"# A\n{readmes.MARK}", "new") == f"# A\n{readmes.MARK}\n\nnew\n"


def test_speed_is_a_median_of_five_full_answers(folder: Path) -> None:
    results = Results(None, MODEL)
    section = results.section("speed", {})
    speed.run(options(folder), section)
    section.finish()
    assert results.of("speed")["load"]["n"] == speed.REPEATS
    assert results.of("speed")["answer"]["answer_tokens"] == speed.ANSWER_TOKENS
