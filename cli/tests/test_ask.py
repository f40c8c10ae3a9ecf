"""What `farthing ask` says about a decision."""

from io import StringIO
from typing import Any

from farthing.gateway.v1 import gateway_service_pb2 as pb
from farthing.type.v1 import model_pb2
from farthing.type.v1.money_pb2 import Money
from farthing_cli.ask import as_dict, explained, summary
from farthing_cli.console import Console
from farthing_cli.generation import Answer


def shown(decision: pb.Decision) -> str:
    """As a terminal would show it."""
    console = Console(file=StringIO(), width=160)
    console.print(explained(decision))
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def option(tier: model_pb2.Tier.ValueType, model: str, success: float, nano_usd: int | None) -> pb.TierOption:
    """One row of the table."""
    cost = None if nano_usd is None else Money(currency_code="USD", nano_units=nano_usd)
    return pb.TierOption(tier=tier, model=model, success=success, expected_cost=cost)


def test_a_choice_is_shown_with_everything_that_it_was_made_from() -> None:
    text = shown(
        pb.Decision(
            tier=model_pb2.TIER_MEDIUM,
            analysis=pb.Analysis(complexity=0.25, task=model_pb2.TASK_QUESTION_ANSWERING, flags=["TRUNCATED"]),
            routing=pb.Routing(
                options=[
                    option(model_pb2.TIER_SMALL, "small", 0.412, 12_000),
                    option(model_pb2.TIER_MEDIUM, "medium", 0.75, 24_000),
                    option(model_pb2.TIER_LARGE, "", 0.9, None),
                ],
                quality_floor=0.58,
                budget_pace=1.6,
                reason=pb.ROUTING_REASON_QUALITY_FLOOR,
            ),
        )
    )
    for part in ("by quality floor", "floor 0.58", "budget pace 1.60", "question answering", "0.25", "TRUNCATED"):
        assert part in text
    rows = [line for line in text.splitlines() if "0.412" in line or "0.750" in line or "0.900" in line]
    assert ["small" in rows[0], "$0.000024" in rows[1], "–" in rows[2]] == [True, True, True]


def test_where_nothing_was_chosen_it_says_why() -> None:
    assert "a cache answered" in shown(pb.Decision(cache_level=model_pb2.CACHE_LEVEL_NEAR))


def cascade(*verdicts: pb.Verdict | None) -> Answer:
    """An answer whose calls were judged so; each cost a thousand nano-dollars."""
    calls = [
        pb.ModelCall(
            request_id=f"q-{number}",
            model=model,
            cost=Money(currency_code="USD", nano_units=1_000),
            verdict=verdict,
        )
        for number, (model, verdict) in enumerate(zip(("small", "medium"), verdicts, strict=False), start=1)
    ]
    return Answer(pb.Decision(explanation="Because."), "text", pb.Final(calls=calls), 0.1, 0.2)


def test_the_calls_of_a_cascade_are_told_with_what_the_judge_found() -> None:
    refused = pb.Verdict(acceptable=0.19, threshold=0.7, findings=["WRONG_ARITHMETIC"])
    answer = cascade(refused, None)
    line = "calls: small $0.000001000 (judged 0.19 of 0.70: WRONG_ARITHMETIC) · medium $0.000001000"
    assert line in summary(answer)
    calls: Any = as_dict(answer)["calls"]
    first, second = calls
    assert first["verdict"]["accepted"] is False
    assert second["verdict"] is None


def test_an_answer_that_nobody_judged_has_no_line_of_calls() -> None:
    assert not [line for line in summary(cascade(None)) if "calls:" in line]
