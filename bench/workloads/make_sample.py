"""Builds the bundled replay sample from public question sets and a public arrival trace.

    python bench/workloads/make_sample.py --data DIR --out cli/src/farthing_cli/samples/three_tenants.jsonl

DIR holds `routing/llmrouter_nine_models.jsonl` and `traces/azure_llm_2023_conv.csv`; where both come from, and under
which licences, stands in the README beside the sample. The same seed gives the same file, byte for byte.

What is real: every prompt (asked by people or written by teachers and programmers) and every gap between two arrivals.
What is drawn: which tenant asks which question again. Real traffic repeats itself; a public trace that has both the
repeats and the text does not exist, so repeats follow a Zipf law within each tenant, tuned to the 31 % of repeated
queries that MeanCache (arXiv 2403.02694) counted in the logs of real users.
"""

import argparse
import csv
import itertools
import json
import random
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path

REQUESTS = 160
MAX_PROMPT_CHARACTERS = 420
ZIPF_EXPONENT = 0.6


@dataclass(frozen=True)
class Tenant:
    """Who asks: the question sets that its application sends, how long answers may be, and its share of the traffic."""

    org: str
    team: str
    users: tuple[str, ...]
    tasks: tuple[str, ...]
    questions: int
    max_output_tokens: int
    share: float


TENANTS = (
    Tenant("lantern", "search", ("web", "mobile"), ("natural_qa", "trivia_qa", "commonsense_qa"), 140, 96, 0.5),
    Tenant("abacus", "tutoring", ("grade-school",), ("gsm8k", "math"), 75, 96, 0.25),
    Tenant("foundry", "devtools", ("ci-bot", "editor"), ("mbpp",), 70, 96, 0.25),
)


@dataclass(frozen=True)
class Request:
    """One line of the sample. `offset_ms` counts from the first request."""

    offset_ms: int
    org: str
    team: str
    user: str
    feature: str
    prompt: str
    max_output_tokens: int


def questions_by_task(path: Path) -> dict[str, list[str]]:
    """All questions short enough for a small context, by the set they come from."""
    found: dict[str, list[str]] = {}
    with path.open(encoding="utf-8") as lines:
        for row in map(json.loads, lines):
            text = row["question"].strip()
            if 0 < len(text) <= MAX_PROMPT_CHARACTERS:
                found.setdefault(row["task"], []).append(text)
    return found


def arrival_offsets_ms(path: Path, count: int) -> list[int]:
    """When the first `count` requests of the trace arrived, counted from the first."""
    with path.open(encoding="utf-8") as lines:
        stamps = [row["TIMESTAMP"][:26] for row in itertools.islice(csv.DictReader(lines), count)]
    times = [datetime.strptime(stamp, "%Y-%m-%d %H:%M:%S.%f").replace(tzinfo=UTC) for stamp in stamps]
    return [round((time - times[0]).total_seconds() * 1000) for time in times]


def asked(tenant: Tenant, questions: dict[str, list[str]], rng: random.Random) -> Iterator[tuple[str, str]]:
    """What a tenant asks, without end: (set, question), popular ones again and again."""
    pool = [(task, text) for task in tenant.tasks for text in questions[task]]
    chosen = rng.sample(pool, tenant.questions)
    weights = [1 / (rank + 1) ** ZIPF_EXPONENT for rank in range(len(chosen))]
    while True:
        yield rng.choices(chosen, weights)[0]


def sample(data: Path, seed: int) -> list[Request]:
    """The whole sample, in order of arrival."""
    rng = random.Random(seed)
    questions = questions_by_task(data / "routing" / "llmrouter_nine_models.jsonl")
    streams = {tenant.org: asked(tenant, questions, rng) for tenant in TENANTS}
    requests = []
    for offset_ms in arrival_offsets_ms(data / "traces" / "azure_llm_2023_conv.csv", REQUESTS):
        tenant = rng.choices(TENANTS, [each.share for each in TENANTS])[0]
        task, text = next(streams[tenant.org])
        user = rng.choice(tenant.users)
        requests.append(Request(offset_ms, tenant.org, tenant.team, user, task, text, tenant.max_output_tokens))
    return requests


def repeated_share(requests: list[Request]) -> float:
    """The share of requests that their tenant had sent before."""
    seen: set[tuple[str, str]] = set()
    repeats = 0
    for request in requests:
        identity = (request.org, request.prompt)
        repeats += identity in seen
        seen.add(identity)
    return repeats / len(requests)


def main() -> None:
    """Writes the sample and says how much of it repeats."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--data", type=Path, required=True, help="folder with routing/ and traces/")
    parser.add_argument("--out", type=Path, required=True, help="the file to write")
    parser.add_argument("--seed", type=int, default=20231116)
    arguments = parser.parse_args()
    requests = sample(arguments.data, arguments.seed)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    lines = (json.dumps(asdict(request), ensure_ascii=False) for request in requests)
    arguments.out.write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    print(
        f"{len(requests)} requests, {repeated_share(requests):.0%} repeated, over {requests[-1].offset_ms / 1000:.0f} s"
    )


if __name__ == "__main__":
    main()
