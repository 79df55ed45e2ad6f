"""Write ``train.jsonl`` and ``valid.jsonl`` anew from ``wordings.json``, whose wordings and values were written by hand, with a fixed seed.

What it does: draws a wording and its values, and keeps a sentence only once, so that no sentence stands in both files. The last wording
of each function is used in ``valid.jsonl`` only. Run by hand; the same seed gives the same bytes. No part of the product calls it.
"""

import json
import random
from pathlib import Path
from typing import Any

SEED = 20261124
Arguments = dict[str, str | int]

HERE = Path(__file__).resolve().parent
WORDINGS: dict[str, Any] = json.loads((HERE / "wordings.json").read_text(encoding="utf-8"))


def tool(name: str, description: str, **arguments: str) -> dict[str, Any]:
    """A function in the API's form; each argument with the name of its JSON type."""
    properties = {argument: {"type": kind} for argument, kind in arguments.items()}
    parameters = {"type": "object", "properties": properties, "required": list(arguments)}
    return {"type": "function", "function": {"name": name, "description": description, "parameters": parameters}}


SWITCHES = [
    tool("turn_on", "Switch a device on.", room="string", device="string"),
    tool("turn_off", "Switch a device off.", room="string", device="string"),
]
CLOCK = [tool("set_timer", "Start a timer.", minutes="integer", label="string")]
SIZES = {
    "train": {"set_timer": 70, "turn_on": 60, "turn_off": 60, "other": 32, "not offered": 18},
    "valid": {"set_timer": 18, "turn_on": 14, "turn_off": 14, "other": 8, "not offered": 6},
}


def spoken(name: str, draw: random.Random, *, held_out: bool) -> tuple[str, Arguments]:
    """A sentence that asks for a function, and the arguments that it names."""
    wordings = WORDINGS["wordings"][name][: None if held_out else -1]
    if name != "set_timer":
        place: Arguments = {"room": draw.choice(WORDINGS["rooms"]), "device": draw.choice(WORDINGS["devices"])}
        return draw.choice(wordings).format(**place), place
    minutes, label = draw.randint(2, 59), draw.choice(WORDINGS["labels"])
    time = f"{minutes} minutes"
    if draw.random() < 0.2:
        time, minutes = draw.choice(list(WORDINGS["spoken_minutes"].items()))
    sentence = draw.choice(wordings).format(time=time, label=label)
    return sentence[0].upper() + sentence[1:], {"minutes": minutes, "label": label}


def row(kind: str, draw: random.Random, requests: list[str], *, held_out: bool) -> dict[str, Any]:
    """One chat row of a kind of ``SIZES``."""
    offered = draw.choice([SWITCHES, CLOCK, SWITCHES + CLOCK])
    name = draw.choice(["turn_on", "turn_off", "set_timer"]) if kind == "not offered" else kind
    answer: dict[str, Any] = {"role": "assistant", "content": WORDINGS["no_tool"]}
    if kind == "other":
        text = requests.pop()
    else:
        text, arguments = spoken(name, draw, held_out=held_out)
        fitting, rest = (CLOCK, SWITCHES) if name == "set_timer" else (SWITCHES, CLOCK)
        offered = rest if kind == "not offered" else draw.choice([fitting, fitting + rest, rest + fitting])
        if kind != "not offered":
            call = {"name": name, "arguments": json.dumps(arguments)}
            answer = {"role": "assistant", "content": None, "tool_calls": [{"id": "call_1", "type": "function", "function": call}]}
    return {"messages": [{"role": "user", "content": text}, answer], "tools": offered}


def main() -> None:
    """Write both files beside this one."""
    draw = random.Random(SEED)
    requests: list[str] = draw.sample(WORDINGS["other_requests"], len(WORDINGS["other_requests"]))
    seen: set[str] = set()
    for name, sizes in SIZES.items():
        rows: list[dict[str, Any]] = []
        for kind, count in sizes.items():
            while count:
                made = row(kind, draw, requests, held_out=name == "valid")
                text = made["messages"][0]["content"]
                if text not in seen:
                    seen.add(text)
                    rows.append(made)
                    count -= 1
        draw.shuffle(rows)
        lines = "".join(json.dumps(made, ensure_ascii=False) + "\n" for made in rows)
        (HERE / f"{name}.jsonl").write_text(lines, encoding="utf-8")


if __name__ == "__main__":
    main()
