"""What `farthing cache` shows."""

from google.protobuf.duration_pb2 import Duration
from rich.console import Console

from farthing.cache.v1 import cache_service_pb2 as pb
from farthing.type.v1.model_pb2 import Task
from farthing.type.v1.money_pb2 import Money
from farthing_cli.cache import evidence_table, happened_table, simulations_table


def shown(table: object) -> str:
    console = Console(width=200, record=True, file=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get()


def test_what_happened_is_counted_and_shared() -> None:
    found = pb.AnalyzeResponse(
        lookups=200,
        exact_hits=50,
        lost_to_veto=[pb.VetoCount(veto="numbers", count=3)],
        avoided=Money(currency_code="USD", nano_units=1_000_000_000),
    )
    text = shown(happened_table(found))
    assert "200 look-ups" in text
    assert "25.0 %" in text
    assert "words that differ: numbers" in text
    assert "$1.00" in text


def test_simulations_name_their_settings() -> None:
    one = pb.CacheSimulation(threshold=1.0, life=Duration(seconds=3600), exact_hits=10, hit_share=0.5)
    two = pb.CacheSimulation(threshold=0.9, life=Duration(seconds=3600), size=1000, semantic_hits=5, hit_share=0.6)
    text = shown(simulations_table(pb.AnalyzeResponse(simulations=[one, two], recommendation=one)))
    for expected in ("exact only", "unbounded", "1:00:00", "50.0 %", "0.90", "1,000"):
        assert expected in text


def test_evidence_says_when_nothing_is_served() -> None:
    row = pb.CategoryStats(task=Task.TASK_CODE, lookups=100, labels=5, threshold=1.01, max_error_share=0.01)
    text = shown(evidence_table(pb.GetStatsResponse(categories=[row])))
    assert "code" in text
    assert "exact only" in text
    assert "1.00 %" in text
