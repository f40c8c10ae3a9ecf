"""Builds the bundled graded workload: questions of many kinds, each with what a right answer must hold.

    python bench/workloads/make_graded.py --out cli/src/farthing_cli/samples/mixed_graded.jsonl

Every question is written for this project, from facts that anybody knows, so that it can be shipped, and graded without
a model. Easy and hard kinds stand side by side on purpose: routing has something to decide. Half of each kind is the
part "learn", for outcomes that calibrate; the other half is the part "test", for figures. The same seed gives the same
file.
"""

import argparse
import json
import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

FOR_EACH_KIND = 30
Graded = tuple[str, dict[str, Any]]  # a question, and what its answer must hold

CAPITALS = (
    "France:Paris Germany:Berlin Italy:Rome Spain:Madrid Portugal:Lisbon Austria:Vienna Poland:Warsaw Greece:Athens "
    "Norway:Oslo Sweden:Stockholm Finland:Helsinki Denmark:Copenhagen Ireland:Dublin Hungary:Budapest Egypt:Cairo "
    "Kenya:Nairobi Japan:Tokyo China:Beijing India:Delhi Thailand:Bangkok Cuba:Havana Peru:Lima Chile:Santiago "
    "Canada:Ottawa Russia:Moscow Turkey:Ankara Iraq:Baghdad Iran:Tehran Vietnam:Hanoi Belgium:Brussels"
)
OPPOSITES = (
    "hot:cold up:down big:small fast:slow happy:sad light:dark day:night open:closed early:late hard:soft "
    "wet:dry full:empty old:young rich:poor strong:weak high:low long:short left:right black:white true:false "
    "first:last win:lose love:hate buy:sell push:pull inside:outside near:far clean:dirty loud:quiet "
    "thick:thin"
)
PRAISE = (
    "I loved every minute of it|The staff were wonderful and the room was spotless|"
    "Works perfectly, and it arrived early|The best soup I have ever had|"
    "A brilliant book, I could not put it down|My children adore this toy|Great value and beautiful colours|"
    "The concert was fantastic|So easy to use, I am delighted|"
    "An excellent teacher who explains everything well|The view was amazing|"
    "Friendly service and a superb dinner|It solved my problem at once, highly recommended|"
    "A charming film with a great cast|The battery lasts for days, superb"
)
BLAME = (
    "It broke after two days|The soup was cold and the waiter was rude|A boring film, I fell asleep|"
    "The worst hotel I have ever stayed in|It never arrived and nobody answers my mails|"
    "Terrible sound and poor quality|I want my money back|The room was dirty and smelled awful|"
    "A waste of money|The instructions are useless|The app crashes all the time|"
    "Horrible taste, I threw it away|The seats were broken and the film was dull|I regret buying this|"
    "Very disappointing, nothing works as promised"
)
NAMES = (
    "Anna Ben Carla David Emma Felix Grace Henry Ida Jonas Karin Leo Mia Noah Olga Peter Rosa Simon Tina Victor".split()
)
THINGS = "apples books coins pencils stamps marbles cards shells stickers buttons".split()
CITIES = "Lisbon Oslo Vienna Dublin Athens Prague Madrid Geneva Naples Bergen".split()


def pairs(text: str) -> list[tuple[str, str]]:
    """The two halves of each word."""
    return [(left, right) for left, right in (word.split(":") for word in text.split())]


def capitals(rng: random.Random) -> Iterator[Graded]:
    """Facts that the smallest model may know."""
    for country, capital in rng.sample(pairs(CAPITALS), FOR_EACH_KIND):
        yield f"What is the capital of {country}?", {"words": [capital]}


def opposites(rng: random.Random) -> Iterator[Graded]:
    """One word."""
    for word, opposite in rng.sample(pairs(OPPOSITES), FOR_EACH_KIND):
        yield f'What is the opposite of "{word}"? Answer with one word.', {"words": [opposite]}


def sentiment(rng: random.Random) -> Iterator[Graded]:
    """Choosing one of two labels."""
    reviews = [(text, "positive", "negative") for text in PRAISE.split("|")]
    reviews += [(text, "negative", "positive") for text in BLAME.split("|")]
    rng.shuffle(reviews)
    for text, label, other in reviews:
        question = f"Is this review positive or negative? Answer with one word.\nReview: {text}."
        yield question, {"words": [label], "not": [other]}


def small_sums(rng: random.Random) -> Iterator[Graded]:
    """One step, small numbers."""
    sums = [(a, b) for a in range(2, 21) for b in range(2, 21)]
    for a, b in rng.sample(sums, FOR_EACH_KIND):
        yield f"What is {a} + {b}?", {"number": a + b}


def products(rng: random.Random) -> Iterator[Graded]:
    """One step, two digits: beyond what small models do by heart."""
    for a, b in rng.sample([(a, b) for a in range(12, 40) for b in range(11, 30)], FOR_EACH_KIND):
        yield f"Calculate {a} times {b}.", {"number": a * b}


def word_problems(rng: random.Random) -> Iterator[Graded]:
    """Two steps in words."""
    for _ in range(FOR_EACH_KIND):
        (name, friend), thing = rng.sample(NAMES, 2), rng.choice(THINGS)
        bags, each, given = rng.randint(3, 9), rng.randint(4, 12), rng.randint(2, 11)
        yield (
            f"{name} has {bags} bags with {each} {thing} in each bag, and gives {given} {thing} to {friend}. "
            f"How many {thing} are left?",
            {"number": bags * each - given},
        )


def extraction(rng: random.Random) -> Iterator[Graded]:
    """A fact that stands in the text."""
    for _ in range(FOR_EACH_KIND):
        name, city, year = rng.choice(NAMES), rng.choice(CITIES), rng.randint(1990, 2024)
        text = f"{name} moved to {city} in {year} to open a small bakery near the river."
        asked, answer = rng.choice([("In which city is the bakery?", city), ("Who opened the bakery?", name)])
        yield f"{text}\n{asked}", {"words": [answer]}


def order(rng: random.Random) -> Iterator[Graded]:
    """A puzzle of three comparisons."""
    for _ in range(FOR_EACH_KIND):
        first, second, third, fourth = rng.sample(NAMES, 4)
        facts = [
            f"{first} is taller than {second}",
            f"{second} is taller than {third}",
            f"{third} is taller than {fourth}",
        ]
        rng.shuffle(facts)
        yield (
            f"{'. '.join(facts)}. Who is the shortest? Answer with one name.",
            {
                "words": [fourth],
                "not": [first, second, third],
            },
        )


KINDS: dict[str, tuple[str, Callable[[random.Random], Iterator[Graded]]]] = {
    "capitals": ("lantern", capitals),
    "opposites": ("lantern", opposites),
    "sentiment": ("foundry", sentiment),
    "extraction": ("foundry", extraction),
    "small_sums": ("abacus", small_sums),
    "products": ("abacus", products),
    "word_problems": ("abacus", word_problems),
    "order": ("lantern", order),
}


def workload(seed: int) -> list[dict[str, Any]]:
    """All lines, the parts and kinds mixed."""
    rng = random.Random(seed)
    lines = []
    for kind, (org, make) in KINDS.items():
        for number, (question, expect) in enumerate(make(rng)):
            part = "learn" if number % 2 else "test"
            line = {
                "org": org,
                "feature": kind,
                "part": part,
                "prompt": question,
                "expect": expect,
                "max_output_tokens": 48,
            }
            lines.append(line)
    rng.shuffle(lines)
    return lines


def main() -> None:
    """Writes the workload."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--seed", type=int, default=20261123)
    options = parser.parse_args()
    lines = workload(options.seed)
    options.out.write_text("".join(json.dumps(line) + "\n" for line in lines), encoding="utf-8")
    print(f"{len(lines)} questions of {len(KINDS)} kinds")


if __name__ == "__main__":
    main()
