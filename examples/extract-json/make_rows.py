"""Make ``train.jsonl`` and ``valid.jsonl`` anew: shapes of sentences filled from word lists, with a fixed seed.

What it does: put a name, an item and a number into a shape, and write the sentence beside the three facts as JSON; a fact that the
shape leaves out is null. What it does not: ask a model. Run by hand from the repository's root.
"""

import json
import random
from pathlib import Path

SEED = 7
NUM_TRAIN, NUM_VALID = 300, 60
PREFIX = "Order as JSON: "


def listed(text: str) -> list[str]:
    """The parts between commas."""
    return text.split(",")


# The names and items of the second lists stand in no training row: about half of the held-out rows take their name from there, and
# about a third their item.
NAMES = listed(
    "Anna,Ben,Clara,David,Emma,Felix,Grace,Hugo,Iris,Jack,Kate,Leo,Maria,Noah,Olga,Paul,Rosa,Sam,Tina,Victor,Alice,Bruno,Lucy,Denis,Eva,"
    "Frank,Gina,Henry,Jane,Karim,Laura,Marc,Nina,Oscar,Peter,Ruth,Simon,Sarah,Tom,Zoe,Amir,Bella,Carlos,Diana,Mia,Ali,Tim,Helen"
)
NEW_NAMES = listed("Martin,Julia,Robert,Sophie,Adam,Nora,Philip,Irene,Max,Elena,Arthur,Linda")
ITEMS = listed(
    "eggs,apples,red roses,blue cups,chairs,bottles of milk,loaves of bread,cheese sandwiches,pizzas,cakes,tickets,pens,books,lemons,"
    "boxes of tea,bags of rice,candles,towels,black shirts,coffees,pears,lamps,plates,onions,white hats,jars of honey,burgers,spoons,"
    "pillows,green bags,chicken soups,blankets,cans of paint,batteries,oranges,notebooks"
)
NEW_ITEMS = listed("bananas,glasses of juice,brown belts,forks,cups of tea,umbrellas,yellow balls,carrots")
NUMBERS = dict(enumerate(listed("two,three,four,five,six,seven,eight,nine,ten,eleven,twelve"), start=2)) | {15: "fifteen", 20: "twenty"}

FULL = (
    "{n} would like {c} {i}.",
    "Please send {c} {i} to {n}.",
    "{c} {i} for {n}, please.",
    "Hello, this is {n}, I need {c} {i}.",
    "My name is {n} and I want {c} {i}.",
    "Can I have {c} {i}? The name is {n}.",
    "{n} called and asked for {c} {i}.",
    "Put {c} {i} aside for {n}.",
    "We need {c} {i}, {n} will pick them up.",
    "{n} here. I'll take {c} {i}.",
    "Could you bring {n} {c} {i}?",
    "The {c} {i} are for {n}.",
    "{n} ordered {c} {i} this morning.",
    "I want to order {c} {i} under the name {n}.",
    "Make it {c} {i}, and write {n} on the box.",
    "How soon can {n} get {c} {i}?",
    "{i} for {n}: {c}, please.",
    "{n} - {c} {i}",
    "Hi, {n} speaking, do you still have {c} {i}?",
    "{n} says that {c} {i} will be enough.",
    "Add {c} {i} to the order of {n}.",
    "There is a new order from {n}: {c} {i}.",
    "I promised {n} {c} {i} by Friday.",
    "Good morning, {c} {i}, please. It's {n}.",
    "Don't forget that {n} gets {c} {i}.",
    "{n} bought {c} {i} and paid by card.",
)
NO_NAME = (
    "I'd like {c} {i}, please.",
    "{c} {i} to take away.",
    "Can we get {c} {i} for tomorrow?",
    "Send me {c} {i} as soon as you can.",
    "We will need {c} {i} on Monday.",
)
NO_COUNT = (
    "{n} wants some {i}.",
    "A few {i} for {n}, please.",
    "{n} asked if you have any {i}.",
    "Keep some {i} for {n}.",
)
NO_ITEM = (
    "{n} needs {c} more of them.",
    "{n} will take {c}, the same as last time.",
    "{c} for {n}, like every week.",
)
SHAPES = (*FULL, *NO_NAME, *NO_COUNT, *NO_ITEM)


def make_row(draw: random.Random, shape: str, names: list[str], items: list[str]) -> dict[str, list[dict[str, str]]]:
    """One chat row: a shape filled with a name, an item and a number, which is written in digits in half of the rows."""
    name, item, count = draw.choice(names), draw.choice(items), draw.choice(list(NUMBERS))
    text = shape.format(n=name, i=item, c=str(count) if draw.random() < 0.5 else NUMBERS[count])
    facts = {
        "name": name if "{n}" in shape else None,
        "item": item if "{i}" in shape else None,
        "count": count if "{c}" in shape else None,
    }
    asked = {"role": "user", "content": PREFIX + text[0].upper() + text[1:]}
    return {"messages": [asked, {"role": "assistant", "content": json.dumps(facts)}]}


def main() -> None:
    """Go round the shapes until there are enough different sentences, then write both files beside this one."""
    draw, seen = random.Random(SEED), set[str]()
    folder = Path(__file__).resolve().parent
    for name, num_rows in (("train", NUM_TRAIN), ("valid", NUM_VALID)):
        rows: list[dict[str, list[dict[str, str]]]] = []
        while len(rows) < num_rows:
            shape = SHAPES[len(rows) % len(SHAPES)]
            held_out = name == "valid"
            names = NEW_NAMES if held_out and draw.random() < 0.5 else NAMES
            items = NEW_ITEMS if held_out and draw.random() < 0.3 else ITEMS
            row = make_row(draw, shape, names, items)
            if (prompt := row["messages"][0]["content"].casefold()) not in seen:
                seen.add(prompt)
                rows.append(row)
        draw.shuffle(rows)
        text = "".join(json.dumps(row) + "\n" for row in rows)
        (folder / f"{name}.jsonl").write_text(text, encoding="utf-8", newline="\n")


if __name__ == "__main__":
    main()
