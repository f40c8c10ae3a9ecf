"""Routing on the running mesh, against recorded answers of real models: what it costs, and what share is right.

    python -m bench.routing mesh --data DIR

Exam questions (MMLU) and grade-school maths (GSM8K) that the classifier has not seen: it is trained again without
them. Every process of the mesh is real; Triton's models say again what Mixtral-8x7B (the small tier) and GPT-4 (the
large one) had answered, so that the quality of what the mesh decided is known. Of an exam question only right or wrong
was recorded, so its answer is two words; cascades, whose judge must read an answer, are measured on the maths alone.
"""

import argparse
import asyncio
import hashlib
import json
import os
import random
import tempfile
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from bench.results import Figure
from bench.routing.bootstrap import ends
from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing_classifier.adapters.onnx_heads import SHIPPED
from farthing_cli.generation import Answer, Gateway
from farthing_models import train_classifier
from tests.support.mesh import MeshUnderTest

NOTES = __doc__ or ""
EXAM, MATHS = "mmlu_mixtral_gpt4.jsonl", "gsm8k_mixtral_gpt4.jsonl"
OTHERS = ("llmrouter_nine_models.jsonl", "llmrouter_prices.json")
EXAM_QUESTIONS: Final = 400
MATHS_QUESTIONS: Final = 180
IN_FLIGHT: Final = 8
FLOORS: Final = (0.6, 0.7, 0.8, 0.9)
RECORDED = Path(__file__).parent / "recorded"
WORK = Path("build") / "bench" / "routing"
MAX_OUTPUT_TOKENS: Final = 256  # what the demonstration tenants may; recorded answers keep their own length


@dataclass(frozen=True)
class Question:
    """A question that was recorded, and which tiers answered it right."""

    text: str
    maths: bool
    right: dict[model_pb2.Tier.ValueType, bool]
    answers: dict[str, str]


@dataclass(frozen=True)
class Answered:
    """What one way of answering all questions came to."""

    right: list[float]
    cost: list[float]  # nano-dollars
    large: list[float]  # 1 where the large tier answered

    @property
    def quality(self) -> float:
        """The share that was right."""
        return sum(self.right) / len(self.right)


def run(arguments: argparse.Namespace) -> dict[str, Figure]:
    """The figures, by name."""
    if arguments.data is None or not (arguments.data / MATHS).exists():
        raise SystemExit("bench.routing mesh: --data names the folder with the routing outcome sets")
    seen, unseen = split(arguments.data, random.Random(arguments.seed))
    heads = trained(arguments.data, seen)
    with tempfile.TemporaryDirectory(prefix="farthing-mesh-bench-") as folder:
        recorded = Path(folder) / "recorded.jsonl"
        recorded.write_text("".join(json.dumps(line) + "\n" for line in lines(unseen)), encoding="utf-8")
        os.environ["FARTHING_HEADS_DIR"] = str(heads)
        os.environ["FARTHING_RECORDED_ANSWERS"] = str(recorded)
        os.environ["FARTHING_TRITON_REPOSITORY"] = str(RECORDED)
        return asyncio.run(measure(Path(folder) / "mesh", unseen, arguments.seed))


def split(data: Path, rng: random.Random) -> tuple[dict[str, list[dict[str, Any]]], list[Question]]:
    """The rows to train on, by file, and the questions to ask."""
    rows = {name: [json.loads(line) for line in (data / name).open(encoding="utf-8")] for name in (EXAM, MATHS)}
    asked = {name: set(rng.sample(range(len(found)), count(name))) for name, found in rows.items()}
    seen = {name: [row for i, row in enumerate(found) if i not in asked[name]] for name, found in rows.items()}
    unseen = [question(row) for name, found in rows.items() for i, row in enumerate(found) if i in asked[name]]
    texts = {each.text for each in unseen}
    for name, found in seen.items():  # a question that comes twice must not be in both parts
        seen[name] = [row for row in found if row["prompt"].strip() not in texts]
    return seen, list({each.text: each for each in unseen}.values())


def count(name: str) -> int:
    """How many questions of a set are asked."""
    return EXAM_QUESTIONS if name == EXAM else MATHS_QUESTIONS


def question(row: dict[str, Any]) -> Question:
    """One row of either set."""
    maths = "weak_response" in row
    outcomes = {"recorded-small": row["weak_correct"], "recorded-large": row["strong_correct"]}
    answers = {name: "recorded: right" if right else "recorded: wrong" for name, right in outcomes.items()}
    if maths:
        answers = {"recorded-small": row["weak_response"], "recorded-large": row["strong_response"]}
    right = {model_pb2.TIER_SMALL: bool(row["weak_correct"]), model_pb2.TIER_LARGE: bool(row["strong_correct"])}
    return Question(row["prompt"].strip(), maths, right, {name: text.strip() or "-" for name, text in answers.items()})


def trained(data: Path, seen: dict[str, list[dict[str, Any]]]) -> Path:
    """Heads that have not seen the questions; made once for each set of them and each version of what is shipped."""
    text = "".join(json.dumps(row) + "\n" for name in (EXAM, MATHS) for row in seen[name])
    shipped = (SHIPPED / "heads.json").read_text("utf-8")
    work = (WORK / hashlib.sha256((shipped + text).encode()).hexdigest()[:16]).absolute()
    heads = work / "heads"
    if not (heads / "heads.json").exists():
        part = work / "data"
        part.mkdir(parents=True, exist_ok=True)
        for name in (EXAM, MATHS):
            (part / name).write_text("".join(json.dumps(row) + "\n" for row in seen[name]), encoding="utf-8")
        for name in OTHERS:
            (part / name).write_bytes((data / name).read_bytes())
        if train_classifier.main(["--data", str(part), "--out", str(heads)]) != 0:
            raise SystemExit("bench.routing mesh: training failed")
    return heads


def lines(questions: Iterable[Question]) -> Iterator[dict[str, str]]:
    """What the recorded models read."""
    for each in questions:
        yield {"prompt_sha256": hashlib.sha256(each.text.encode()).hexdigest(), **each.answers}


async def measure(folder: Path, questions: Sequence[Question], seed: int) -> dict[str, Figure]:
    """Ask everything in every way."""
    maths = [each for each in questions if each.maths]
    models = ("recorded-small", "recorded-large")
    async with MeshUnderTest(folder, models=models, pools=RECORDED / "pools.toml") as mesh:
        plain, cascading = await mesh.gateway("lantern"), await mesh.gateway("abacus")
        small = await ask_all(plain, questions, tier=model_pb2.TIER_SMALL)
        large = await ask_all(plain, questions, tier=model_pb2.TIER_LARGE)
        figures = {**told("mesh_always_small", small, large, seed), **told("mesh_always_large", large, large, seed)}
        for floor in FLOORS:
            routed = await ask_all(plain, questions, floor=floor)
            figures |= told(f"mesh_routed_at_{round(floor * 100):03d}", routed, large, seed)
        large = await ask_all(cascading, maths, tier=model_pb2.TIER_LARGE)
        small = await ask_all(cascading, maths, tier=model_pb2.TIER_SMALL)
        figures |= told("mesh_maths_always_small", small, large, seed)
        figures |= told("mesh_maths_always_large", large, large, seed)
        for floor in FLOORS:
            cascaded = await ask_all(cascading, maths, floor=floor)
            figures |= told(f"mesh_maths_cascade_at_{round(floor * 100):03d}", cascaded, large, seed)
    return figures


async def ask_all(
    gateway: Gateway,
    questions: Sequence[Question],
    *,
    tier: model_pb2.Tier.ValueType = model_pb2.TIER_UNSPECIFIED,
    floor: float | None = None,
) -> Answered:
    """One answer to each question."""
    free = asyncio.Semaphore(IN_FLIGHT)

    async def one(each: Question) -> Answer:
        async with free:
            return await gateway.ask(
                pb.Prompt(
                    messages=[model_pb2.ChatMessage(role=model_pb2.CHAT_ROLE_USER, content=each.text)],
                    sampling=model_pb2.Sampling(max_output_tokens=MAX_OUTPUT_TOKENS),
                    cache_control=pb.CacheControl(no_cache=True, no_store=True),
                    tier=tier,
                    quality_floor=floor,
                )
            )

    answers = await asyncio.gather(*(one(each) for each in questions))
    if degraded := [each for each in answers if each.decision.degradations]:
        print(f"{len(degraded)} of {len(answers)} answers were degraded: {degraded[0].decision.degradations[0]}")
    return Answered(
        right=[float(each.right[answer.decision.tier]) for each, answer in zip(questions, answers, strict=True)],
        cost=[float(answer.final.cost.nano_units) for answer in answers],
        large=[float(answer.decision.tier == model_pb2.TIER_LARGE) for answer in answers],
    )


def told(name: str, found: Answered, large: Answered, seed: int) -> dict[str, Figure]:
    """Quality with its interval, cost as a share of always large, and the share that the large tier answered."""
    return {
        f"{name}_right": (found.quality, *ends(found.right, seed)),
        f"{name}_cost": sum(found.cost) / sum(large.cost),
        f"{name}_large_share": sum(found.large) / len(found.large),
    }
