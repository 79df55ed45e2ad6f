"""Section ``tasks``: real public tasks, tuned beside base on rows that are not trained on, and beside a bag of words.

What it does: draw training and test rows by a fixed seed, train and ask once per seed, compare row by row. What it does not: keep any
text of these files in the results. Called by ``pretraining/evaluate.py``.
"""

import json
import random
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from luthier.core.specs import Hyperparameters
from pretraining.evaluation.method_tables import show_formality
from pretraining.evaluation.options import Options, missing_files, read_rows, write_rows
from pretraining.evaluation.preference import measure_formality
from pretraining.evaluation.results import Section
from pretraining.evaluation.statistics import pack_hits, paired_bootstrap, share, unpack_hits
from pretraining.evaluation.supervised import RULE, ask_base, tune_and_ask
from pretraining.evaluation.tables import percent, seeds_of, show, verdict

NAME = "tasks"
FORMALITY_FILE = "dpo_formality_enfr.jsonl.xz"
_ROWS_SEED = 20261124
_NUM_INTENTS, _ROWS_OF_INTENT = 20, 25
_PAIRS, _PROMPTS = 600, 200
"""Of the formality file: pairs trained on, prompts answered."""
BAG_HEADERS = ("bag of words", "tuned - bag")
_ANSWER_KEYS = ("intent", "slots")
_FEW_TOKENS = Hyperparameters(batch_size=8)
_MANY_TOKENS = Hyperparameters(batch_size=8, n_epochs=2)
"""What is not left to "auto", so that a run stays below a minute on two cores (about 1,600 tokens a second): 0.2 % of the rows would be
batches of one or two, which cost up to twice as much, and three epochs of 1,000 rows of 45 tokens take 80 s."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Task:
    """One task: where its rows come from and how it is tuned."""

    name: str
    title: str
    files: tuple[str, ...]
    draw: Callable[..., tuple[list[Row], list[Row]]]
    """From the rows of each file: training rows, test rows, in chat form."""
    labels: bool
    """The answers are a few labels, so a bag of words can be asked too."""
    hyperparameters: Hyperparameters


def missing(options: Options) -> list[str]:
    """What keeps this section from running, as sentences."""
    files = [name for task in TASKS for name in task.files]
    return missing_files(options.tasks, [*files, FORMALITY_FILE], section=NAME, option="--tasks")


def run(options: Options, section: Section, hyperparameters: Hyperparameters | None = None) -> None:
    """Measure and print.

    Args:
        options: with ``tasks`` there (``missing``).
        section: where the results go.
        hyperparameters: of every supervised run; each task's own without it.
    """
    assert options.tasks is not None
    rows = [_measure(options, section, task, hyperparameters or task.hyperparameters) for task in TASKS]
    show(
        f"Tasks, seeds {seeds_of(options.seeds)}: right answers of n test rows, greedy ({RULE}). LoRA; what is not named "
        "under 'set' is auto. Differences in points with a 95 % interval (paired bootstrap over the rows, mean of the seeds)",
        ["task", "set", "n train", "n", "base", *(f"seed {seed}" for seed in options.seeds), "tuned - base", *BAG_HEADERS, "seconds"],
        rows,
    )
    file = options.tasks / FORMALITY_FILE
    pairs = len(options.cut_training(range(_PAIRS)))
    prompts = len(options.cut(range(_PROMPTS)))
    formality = [
        section.measured(
            f"formality seed {seed}", lambda s=seed: measure_formality(options.model, file, s, num_train=pairs, num_test=prompts)
        )
        for seed in options.seeds
    ]
    show_formality(f"Formality by preferences ({FORMALITY_FILE})", formality)


def _measure(options: Options, section: Section, task: Task, chosen: Hyperparameters) -> list[object]:
    """All results of one task, stored one by one; the row of the table."""
    learned, asked = _rows(options, task)
    with tempfile.TemporaryDirectory() as folder:
        train = write_rows(Path(folder) / "train.jsonl", learned)
        test = write_rows(Path(folder) / "test.jsonl", asked)
        base = section.measured(f"{task.name} base", lambda: ask_base(options.model, test))
        runs = [
            section.measured(
                f"{task.name} seed {seed}",
                lambda s=seed: tune_and_ask(options.model, train, test, seed=s, hyperparameters=chosen),
            )
            for seed in options.seeds
        ]
    tuned = [unpack_hits(one) for one in runs]
    gain = paired_bootstrap(tuned, [unpack_hits(base)])
    _show_seeds(task.title, base, runs)
    bag_cells: list[object] = ["-", "-"]
    if task.labels:
        bag = section.measured(f"{task.name} bag of words", lambda: bag_of_words(learned, asked))
        bag_cells = [percent(share(bag)), paired_bootstrap(tuned, [unpack_hits(bag)])]
    seconds = "/".join(f"{one['run']['seconds']:.0f}" for one in runs)
    shares = [percent(share(one)) for one in runs]
    return [task.title, _set(chosen), len(learned), base["n"], percent(share(base)), *shares, gain, *bag_cells, seconds]


def _show_seeds(title: str, base: dict[str, Any], runs: Sequence[dict[str, Any]]) -> None:
    """The bound: in every seed the lower end of the interval of tuned - base is above zero."""
    for one in runs:
        gain = paired_bootstrap([unpack_hits(one)], [unpack_hits(base)])
        print(f"{verdict(gain is not None and gain.low > 0)} {title}, seed {one['run']['seed']}: tuned - base {gain}", flush=True)


def _set(hyperparameters: Hyperparameters) -> str:
    return ", ".join(f"{name} {value}" for name, value in asdict(hyperparameters).items() if value is not None) or "-"


def bag_of_words(train: Sequence[Row], test: Sequence[Row]) -> dict[str, Any]:
    """Logistic regression on TF-IDF of words and word pairs, with scikit-learn's defaults: a simple rival that has read nothing else."""
    asked, labels = zip(*(_question_and_answer(row) for row in train), strict=True)
    classifier = make_pipeline(TfidfVectorizer(ngram_range=(1, 2)), LogisticRegression(max_iter=1000))
    classifier.fit(asked, labels)
    asked, labels = zip(*(_question_and_answer(row) for row in test), strict=True)
    return pack_hits([str(got) == wanted for got, wanted in zip(classifier.predict(asked), labels, strict=True)])


def _question_and_answer(row: Row) -> tuple[str, str]:
    return row["messages"][0]["content"], row["messages"][-1]["content"]


def _rows(options: Options, task: Task) -> tuple[list[Row], list[Row]]:
    assert options.tasks is not None
    train, test = task.draw(*(read_rows(options.tasks / name) for name in task.files))
    return options.cut_training(train), options.cut(test)


def draw_sentiment(train: list[Row], test: list[Row]) -> tuple[list[Row], list[Row]]:
    """1,000 and 500 rows of the file's own split."""
    draw = random.Random(_ROWS_SEED)
    return draw.sample(train, min(1000, len(train))), draw.sample(test, min(500, len(test)))


def draw_intents(train: list[Row], test: list[Row]) -> tuple[list[Row], list[Row]]:
    """20 intents with 25 training rows each; of their test rows at most 400."""
    draw = random.Random(_ROWS_SEED)
    by_intent: dict[str, list[Row]] = {}
    for row in train:
        by_intent.setdefault(_question_and_answer(row)[1], []).append(row)
    tested = {_question_and_answer(row)[1] for row in test}
    rich = sorted(intent for intent, rows in by_intent.items() if len(rows) >= _ROWS_OF_INTENT and intent in tested)
    chosen = draw.sample(rich, min(_NUM_INTENTS, len(rich)))
    learned = [row for intent in chosen for row in draw.sample(by_intent[intent], _ROWS_OF_INTENT)]
    asked = [row for row in test if _question_and_answer(row)[1] in chosen]
    draw.shuffle(learned)
    return learned, draw.sample(asked, min(400, len(asked)))


def draw_home(rows: list[Row]) -> tuple[list[Row], list[Row]]:
    """300 test rows and at most 1,000 training rows; all rows of one text, whatever its case, are on one side."""
    draw = random.Random(_ROWS_SEED)
    by_text: dict[str, list[Row]] = {}
    for row in rows:
        answer = json.dumps({key: row[key] for key in _ANSWER_KEYS}, ensure_ascii=False, separators=(",", ":"))
        messages = [{"role": "user", "content": row["text"]}, {"role": "assistant", "content": answer}]
        by_text.setdefault(row["text"].casefold(), []).append({"messages": messages})
    texts = sorted(by_text)
    draw.shuffle(texts)
    size = min(300, len(rows) // 4)
    test: list[Row] = []
    while len(test) < size:
        test += by_text[texts.pop()]
    return [row for text in texts for row in by_text[text]][:1000], test[:size]


TASKS = (
    Task(
        "sentiment",
        "sentence polarity",
        ("sentence_polarity_train.jsonl.xz", "sentence_polarity_test.jsonl.xz"),
        draw_sentiment,
        labels=True,
        hyperparameters=_MANY_TOKENS,
    ),
    Task(
        "intents",
        "CLINC, 20 intents",
        ("clinc150_train.jsonl.xz", "clinc150_test.jsonl.xz"),
        draw_intents,
        labels=True,
        hyperparameters=_FEW_TOKENS,
    ),
    Task(
        "home",
        "Home Assistant, en + fr, JSON",
        ("home_assistant_intents.jsonl.xz",),
        draw_home,
        labels=False,
        hyperparameters=_MANY_TOKENS,
    ),
)
