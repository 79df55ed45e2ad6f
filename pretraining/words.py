"""Word lists and spoken orders for the task-shaped rows, written for the project. Read by ``tasks.py``."""

from dataclasses import dataclass


def _listed(words: str) -> tuple[str, ...]:
    return tuple(words.split())


NAMES = _listed(
    "Anna Ben Clara David Emma Felix Grace Hugo Iris Jack Kate Leo Maria Noah Olga Paul Rosa Sam Tina Victor Wendy Alice Bruno Chloe Denis "
    "Eva Frank Gina Henri Ines Jules Karim Lucie Marc Nina Oscar Pierre Quentin Rania Simon Theo Ursula Yves Zoe Amir Bella Carlos Diana"
)
CITIES = _listed(
    "Paris London Berlin Madrid Rome Lyon Boston Geneva Dublin Cairo Tokyo Oslo Vienna Lisbon Nice Delhi Chicago Dakar Quebec Naples"
    " Athens Prague Lima Toronto Brussels"
)
DAYS = _listed("Monday Tuesday Wednesday Thursday Friday Saturday Sunday")
MONTHS = _listed("January February March April May June July August September October November December")
COLOURS = _listed("red blue green yellow black white brown grey orange pink purple")
ANIMALS = _listed("dog cat horse cow sheep goat pig hen duck fox wolf bear lion mouse rabbit frog snake owl donkey elephant monkey")
FOODS = _listed("bread cheese soup rice apples pears fish cake eggs salad pasta honey butter potatoes carrots grapes pizza chocolate")
DRINKS = _listed("water milk tea coffee juice wine lemonade cider")
PLACES = _listed("station school market library hospital church beach park museum bridge hotel bank harbour garden office")
OBJECTS = _listed("book lamp table chair key bag coat ball box pen clock mirror phone hat knife basket letter bicycle umbrella ticket ring")
NUMBER_WORDS = _listed(
    "zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen sixteen seventeen eighteen nineteen "
    "twenty"
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that an assistant may call, the values of its arguments, and how people ask for it."""

    name: str
    description: str
    arguments: dict[str, tuple[str, ...] | tuple[int, ...]]
    sentences: tuple[str, ...]


_SMALL = tuple(range(1, 31))

TOOLS = (
    Tool(
        "buy_ticket",
        "Buy tickets to a city.",
        {"city": CITIES, "count": _SMALL},
        ("{count} tickets to {city}", "I need {count} seats to {city}, please", "get me {count} tickets for {city}"),
    ),
    Tool(
        "book_table",
        "Book a table.",
        {"day": DAYS, "guests": _SMALL},
        ("a table for {guests} on {day}", "book for {guests} people {day}", "we are {guests} on {day}"),
    ),
    Tool("open_page", "Open a page of a book.", {"page": _SMALL}, ("open page {page}", "go to page {page}", "show me page {page}")),
    Tool(
        "find_place",
        "Find a place in a city.",
        {"place": PLACES, "city": CITIES},
        ("where is the {place} in {city}?", "find a {place} in {city}"),
    ),
    Tool("paint", "Paint something.", {"thing": OBJECTS, "colour": COLOURS}, ("paint the {thing} {colour}", "make the {thing} {colour}")),
    Tool("feed", "Feed an animal.", {"animal": ANIMALS, "food": FOODS}, ("give the {animal} some {food}", "feed {food} to the {animal}")),
    Tool("call_person", "Call somebody.", {"name": NAMES}, ("call {name}", "phone {name} for me", "I want to talk to {name}")),
    Tool("write_note", "Write down a note.", {"text": FOODS + OBJECTS}, ("note: {text}", "write down {text}", "do not forget the {text}")),
    Tool("pour", "Pour a drink.", {"drink": DRINKS, "glasses": _SMALL}, ("{glasses} glasses of {drink}", "pour {glasses} {drink}")),
    Tool(
        "move",
        "Move a thing to a place.",
        {"thing": OBJECTS, "place": PLACES},
        ("take the {thing} to the {place}", "bring the {thing} to the {place}"),
    ),
    Tool("count_down", "Count down from a number.", {"start": _SMALL}, ("count down from {start}", "start at {start} and count down")),
    Tool("invite", "Invite a person on a day.", {"name": NAMES, "day": DAYS}, ("invite {name} on {day}", "ask {name} to come {day}")),
    Tool("sell", "Sell something.", {"thing": OBJECTS, "price": _SMALL}, ("sell the {thing} for {price}", "{price} euros for the {thing}")),
    Tool(
        "birthday",
        "Remember a birthday.",
        {"name": NAMES, "month": MONTHS},
        ("{name} was born in {month}", "{name} has a birthday in {month}"),
    ),
    Tool("look_up", "Look up a word.", {"word": ANIMALS + OBJECTS}, ("what does {word} mean?", "look up {word}", "meaning of {word}")),
)
