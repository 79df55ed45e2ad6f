"""Task-shaped rows: short jobs with one right answer, in many wordings, made from text of the corpus and from small word lists.

They teach the shape of a task (a question, an answer, an end) and the marks of a chat, not the tasks that the project measures:
nothing here comes from a set that is used for measuring, and nothing asks for a translation. Called by ``pack.py``.
"""

import json
import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from pretraining.words import (
    ANIMALS,
    CITIES,
    COLOURS,
    DAYS,
    DRINKS,
    FOODS,
    MONTHS,
    NAMES,
    NUMBER_WORDS,
    OBJECTS,
    PLACES,
    TOOLS,
    Tool,
)

SYSTEM, USER, ASSISTANT, END, TOOL, TOOL_CALL = "<|system|>", "<|user|>", "<|assistant|>", "<|end|>", "<|tool|>", "<|tool_call|>"
_CHAT_SHARE = 0.6
_SYSTEM_SHARE = 0.4
_MAX_WORDS = 24
_MIN_WORDS = 3


@dataclass(frozen=True, slots=True)
class Task:
    """One job: what is asked, the answer, and a system line that fits it."""

    ask: str
    answer: str
    system: str = ""
    offered: str = ""
    """Tools, one a line."""


PLAIN_FRAMES = ("{ask}\n{answer}", "Input: {ask}\nOutput: {answer}", "Q: {ask}\nA: {answer}", "{ask}\n-> {answer}", "{ask}\n\n{answer}")
SYSTEM_LINES = (
    "Answer in as few words as possible.",
    "You are a helpful assistant.",
    "Give only the answer.",
    "Be short.",
    "You do small jobs with text.",
    "Réponds en peu de mots.",
    "Follow the instruction.",
)


class TaskMaker:
    """Draws task rows from sentences of the corpus and from word lists."""

    def __init__(self, sentences: Sequence[tuple[str, str]], seed: int) -> None:
        """``sentences``: (language, sentence); those too short or too long are left out."""
        self._sentences = [(lang, s) for lang, s in sentences if _MIN_WORDS <= len(s.split()) <= _MAX_WORDS and len(s) < 160]
        self._draw = random.Random(seed)
        self._makers: tuple[tuple[Callable[[], Task], int], ...] = (
            (self._label, 16),
            (self._labels_in_context, 8),
            (self._extraction, 16),
            (self._slots, 10),
            (self._cloze, 8),
            (self._copy, 12),
            (self._question, 14),
            (self._sum, 4),
            (self._use_word, 6),
            (self._tool_call, 12),
        )
        self._weights = [weight for _, weight in self._makers]

    def row(self) -> str:
        """One row: a chat or plain text; one in five chats has a second turn."""
        task = self._one()
        if self._draw.random() >= _CHAT_SHARE and not task.offered:
            return self._draw.choice(PLAIN_FRAMES).format(ask=task.ask, answer=task.answer)
        head = f"{TOOL}{task.offered}{END}" if task.offered else ""
        if task.system or self._draw.random() < _SYSTEM_SHARE:
            head += f"{SYSTEM}{task.system or self._draw.choice(SYSTEM_LINES)}{END}"
        text = head + self._turn(task)
        if not task.offered and self._draw.random() < 0.2:
            text += self._turn(self._one(offer=False))
        return text

    def _one(self, *, offer: bool = True) -> Task:
        while True:
            task = self._draw.choices(self._makers, self._weights)[0][0]()
            if offer or not task.offered:
                return task

    def _turn(self, task: Task) -> str:
        return f"{USER}{task.ask}{END}{ASSISTANT}{task.answer}{END}"

    def _sentence(self) -> tuple[str, str]:
        return self._draw.choice(self._sentences)

    # ------------------------------------------------------------------------------------------------------------ labels

    def _labelled(self) -> tuple[str, str, str]:
        """(name of the question, text, label): properties that a sentence shows by itself."""
        language, text = self._sentence()
        kind = self._draw.randrange(6)
        if kind == 0:
            return "language", text, {"en": "English", "fr": "French"}[language]
        if kind == 1:
            return "kind", text, "question" if text.endswith("?") else "exclamation" if text.endswith("!") else "statement"
        if kind == 2:
            return "length", text, "short" if len(text.split()) <= 8 else "long"
        if kind == 3:
            return "person", text, _person(text, language)
        if kind == 4:
            return self._topic()
        return self._mood()

    def _topic(self) -> tuple[str, str, str]:
        name, words = self._draw.choice((("animal", ANIMALS), ("food", FOODS), ("drink", DRINKS), ("place", PLACES), ("object", OBJECTS)))
        shape = self._draw.choice(
            ("I saw {w}.", "{n} talks about {w} all day.", "Tell me more about {w}.", "What is {w} like?", "{w} again!", "We all like {w}.")
        )
        return "topic", shape.format(w=self._draw.choice(words), n=self._draw.choice(NAMES)), name

    def _mood(self) -> tuple[str, str, str]:
        good = self._draw.random() < 0.5
        feelings = ("happy", "glad", "delighted", "proud", "grateful") if good else ("sad", "angry", "afraid", "tired", "lonely")
        feeling, name = self._draw.choice(feelings), self._draw.choice(NAMES)
        shape = self._draw.choice(
            ("{n} was {f} all day.", "I am so {f}.", "They looked {f} to me.", "{n} went home, {f} as ever.", "We felt {f}.")
        )
        return "mood", shape.format(n=name, f=feeling), "good" if good else "bad"

    def _label(self) -> Task:
        name, text, label = self._labelled()
        label = self._draw.choice((label, label.lower(), label.lower()))
        wording = self._draw.choice(
            (
                "{t}\n{N}:",
                "{N}: {t}",
                "What is the {n} of this text? {t}",
                "Label the {n}: {t}",
                "[{n}] {t}",
                "Classify by {n}.\n{t}",
                "{t} ({n}?)",
            )
        )
        if self._draw.random() < 0.3:
            return Task(
                text, label, system=self._draw.choice((f"Name the {name}.", f"Answer with the {name} only.", f"Label each text: {name}."))
            )
        return Task(wording.format(t=text, n=name, N=name.capitalize()), label)

    def _labels_in_context(self) -> Task:
        """A few labelled lines with made-up labels, then one to label: the rule can only be read from the lines."""
        name, _, _ = self._labelled()
        rows: list[tuple[str, str]] = []
        for _ in range(60):
            other, text, label = self._labelled()
            if other == name and len(text) < 60:
                rows.append((text, label))
            if len(rows) == 5:
                break
        if len(rows) < 2:
            return self._copy()
        if self._draw.random() < 0.5:
            codes = dict(zip(sorted({label for _, label in rows}), self._draw.sample("ABCDEFGH", 8), strict=False))
            rows = [(text, codes[label]) for text, label in rows]
        arrow = self._draw.choice((" -> ", " = ", ": ", "\t", " | "))
        return Task("\n".join(f"{text}{arrow}{label}" for text, label in rows[:-1]) + f"\n{rows[-1][0]}{arrow.rstrip()}", rows[-1][1])

    # ---------------------------------------------------------------------------------------------------------------- JSON

    def _facts(self) -> dict[str, str | int]:
        d = self._draw
        pool: dict[str, str | int] = {
            "name": d.choice(NAMES),
            "city": d.choice(CITIES),
            "day": d.choice(DAYS),
            "month": d.choice(MONTHS),
            "count": d.randint(1, 20),
            "item": d.choice(OBJECTS + FOODS),
            "colour": d.choice(COLOURS),
            "animal": d.choice(ANIMALS),
            "hour": d.randint(1, 12),
            "age": d.randint(2, 90),
            "place": d.choice(PLACES),
            "drink": d.choice(DRINKS),
        }
        keys = d.sample(sorted(pool), d.randint(1, 4))
        return {key: pool[key] for key in keys}

    def _extraction(self) -> Task:
        """Clauses that each carry one fact, and the facts as a JSON object."""
        facts = self._facts()
        clauses = [self._draw.choice(_CLAUSES[key]).format(v=value) for key, value in facts.items()]
        self._draw.shuffle(clauses)
        text = self._draw.choice(("{}.", "{}", "Note: {}.", "Hello, {}.", "{} please")).format(", ".join(clauses))
        if self._draw.random() < 0.15:
            missing = self._draw.choice([key for key in _CLAUSES if key not in facts])
            answer = json.dumps({**facts, missing: None}, ensure_ascii=False)
            keys = [*facts, missing]
        else:
            answer, keys = json.dumps(facts, ensure_ascii=False), list(facts)
        listed = ", ".join(keys)
        wording = self._draw.choice(
            (
                "{t}\nJSON ({k}):",
                "Extract {k} as JSON: {t}",
                "{t} -> JSON with {k}",
                "Fields: {k}\nText: {t}",
                "Read {k} from the text.\n{t}",
            )
        )
        if self._draw.random() < 0.3:
            return Task(text, answer, system=f"Write a JSON object with the keys {listed}.")
        return Task(wording.format(t=text, k=listed), answer)

    def _slots(self) -> Task:
        """A spoken order, and what it means as nested JSON."""
        tool = self._draw.choice(TOOLS)
        spoken, arguments = _fill(tool, self._draw)
        answer = json.dumps({self._draw.choice(("action", "command", "do")): tool.name, "with": arguments}, ensure_ascii=False)
        return Task(self._draw.choice(("{}", "Parse: {}", "{}\nAs JSON:", "Order: {}")).format(spoken), answer)

    def _tool_call(self) -> Task:
        offered = self._draw.sample(TOOLS, self._draw.randint(1, 3))
        tool = self._draw.choice(offered)
        lines = "\n".join(f"{t.name}({', '.join(t.arguments)}): {t.description}" for t in offered)
        if self._draw.random() < 0.2:
            other = self._question()
            return Task(other.ask, other.answer, offered=lines)
        spoken, arguments = _fill(tool, self._draw)
        call = f'{TOOL_CALL}{{"name": "{tool.name}", "arguments": {json.dumps(arguments, ensure_ascii=False)}}}'
        return Task(spoken, call, offered=lines)

    # ---------------------------------------------------------------------------------------------------------------- text

    def _cloze(self) -> Task:
        _, text = self._sentence()
        words = text.split()
        at = self._draw.randrange(len(words))
        word = words[at].strip('.,!?;:"()«»')
        if not word:
            return self._copy()
        gap = " ".join([*words[:at], words[at].replace(word, self._draw.choice(("___", "...", "[gap]")), 1), *words[at + 1 :]])
        return Task(
            self._draw.choice(("Fill the gap: {}", "{}\nMissing word:", "Which word is missing? {}", "Complete: {}")).format(gap), word
        )

    def _copy(self) -> Task:
        _, text = self._sentence()
        words = text.split()
        jobs: tuple[tuple[str, str], ...] = (
            ("Repeat", text),
            ("Copy", text),
            ("Upper case", text.upper()),
            ("Lower case", text.lower()),
            ("First word", words[0]),
            ("Last word", words[-1]),
            ("How many words", str(len(words))),
            ("Words in reverse order", " ".join(reversed(words))),
            ("Second word", words[1]),
            ("Without the first word", " ".join(words[1:])),
            ("As a list", "\n".join(f"- {word}" for word in words)),
            ("In quotes", f'"{text}"'),
        )
        name, answer = self._draw.choice(jobs)
        return Task(self._draw.choice(("{j}: {t}", "{t}\n{j}:", "[{j}] {t}", "{j}\n{t}")).format(j=name, t=text), answer)

    def _use_word(self) -> Task:
        """A sentence of the corpus, asked for by one of its longer words."""
        language, text = self._sentence()
        # By length, then by letters: the order of a set differs from process to process.
        words = sorted({word.strip('.,!?;:"()«»').lower() for word in text.split()}, key=lambda word: (len(word), word))[-3:]
        word = self._draw.choice(words)
        asks = (
            ("{} ->", "A line with {}", "Say something about {}", "About {}:")
            if language == "en"
            else ("{} ->", "Une phrase avec {}", "Sur {} :")
        )
        return Task(self._draw.choice(asks).format(word), text)

    def _question(self) -> Task:
        d = self._draw
        first, second = d.sample(NAMES, 2)
        thing, other = d.sample(OBJECTS, 2)
        colour, another = d.sample(COLOURS, 2)
        day = d.randrange(7)
        questions: tuple[tuple[str, str], ...] = (
            (f"{first} has a {colour} {thing}. {second} has a {another} {thing}. What colour is the {thing} of {second}?", another),
            (f"{first} has a {thing} and {second} has a {other}. Who has the {thing}?", first),
            (f"{first} lives in {d.choice(CITIES)}. Who is this about?", first),
            (f"What comes after {DAYS[day]}?", DAYS[(day + 1) % 7]),
            (f"What comes before {DAYS[day]}?", DAYS[day - 1]),
            (f"Is a {d.choice(ANIMALS)} an animal?", "yes"),
            (f"Is a {thing} an animal?", "no"),
            (f"Can one eat {d.choice(FOODS)}?", "yes"),
            (f"{first} is older than {second}. Who is younger?", second),
            (f"{first} gave {second} a {thing}. Who has it now?", second),
            (f"The {thing} is in the {d.choice(('box', 'bag', 'car', 'garden'))}. What is there?", f"the {thing}"),
        )
        ask, answer = d.choice(questions)
        return Task(ask, answer)

    def _sum(self) -> Task:
        d = self._draw
        a, b = d.randint(0, 20), d.randint(0, 20)
        if d.random() < 0.3:
            number = d.randrange(len(NUMBER_WORDS))
            return Task(d.choice(("{} as a number", "{} in digits", "Write {} as digits")).format(NUMBER_WORDS[number]), str(number))
        if d.random() < 0.5 and a >= b:
            return Task(d.choice(("{a} - {b}", "{a} - {b} =", "What is {a} minus {b}?")).format(a=a, b=b), str(a - b))
        return Task(d.choice(("{a} + {b}", "{a} + {b} =", "What is {a} plus {b}?")).format(a=a, b=b), str(a + b))


def _fill(tool: Tool, draw: random.Random) -> tuple[str, dict[str, str | int]]:
    """A spoken sentence for a tool, and the arguments that it names."""
    arguments: dict[str, str | int] = {name: draw.choice(values) for name, values in tool.arguments.items()}
    return draw.choice(tool.sentences).format(**arguments), arguments


def _person(text: str, language: str) -> str:
    words = {word.strip('.,!?;:"').lower() for word in text.replace("'", " ").split()}
    if words & ({"i", "me", "my"} if language == "en" else {"je", "j", "me", "mon", "ma"}):
        return "first"
    if words & ({"you", "your"} if language == "en" else {"tu", "vous", "te", "votre"}):
        return "second"
    return "third"


_CLAUSES: dict[str, tuple[str, ...]] = {
    "name": ("my name is {v}", "it is for {v}", "{v} called", "from {v}"),
    "city": ("I live in {v}", "we meet in {v}", "it goes to {v}", "somewhere near {v}"),
    "day": ("on {v}", "it happens on {v}", "{v} is best", "not before {v}"),
    "month": ("in {v}", "some time in {v}", "by the end of {v}"),
    "count": ("{v} of them", "we need {v}", "there are {v}", "number {v}"),
    "item": ("I would like {v}", "send the {v}", "it is about {v}", "one order of {v}"),
    "colour": ("in {v}", "it must be {v}", "the {v} one", "{v} if possible"),
    "animal": ("we have a {v}", "it is a {v}", "the {v} comes along"),
    "hour": ("at {v} o'clock", "around {v}", "not later than {v}"),
    "age": ("aged {v}", "I am {v} years old", "{v} years"),
    "place": ("at the {v}", "near the {v}", "we wait by the {v}"),
    "drink": ("with {v}", "and some {v} to drink", "a glass of {v}"),
}
