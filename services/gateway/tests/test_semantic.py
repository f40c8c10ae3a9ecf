"""Look-ups by meaning, over parts in memory: when the cache is asked, what for, and what becomes of its word."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from farthing_gateway.domain.analysis import AnalysisFlag
from farthing_gateway.domain.judge import Opinion
from farthing_gateway.domain.model import CacheLevel, Role, Task, Tier
from farthing_gateway.domain.outcomes import AGREES, DISAGREES
from farthing_gateway.domain.policy import CacheScope, FixedTier, RoutingPolicy, SemanticCachePolicy
from farthing_gateway.domain.prompt import CacheControl, Message
from farthing_gateway.domain.similar import Similar
from farthing_kit.context import Principal
from farthing_kit.errors import Unavailable
from services.gateway.tests.fakes import Mesh
from services.gateway.tests.values import analysis, answer, ask, policy, sampled

EMBEDDING, ENCODER = b"\0\0\x80?" + bytes(4 * 383), b"e" * 32
SEMANTIC = SemanticCachePolicy(max_error_share=0.02)
HIT = Similar(answer("Paris, as before."), True, False, 0.97, 0.99, 0.95, b"receipt")
EXPLORED = Similar(answer("Paris, as before."), False, True, 0.97, 0.99, 0.95, b"receipt", "explored")


@pytest.fixture
def mesh() -> Mesh:
    mesh = Mesh()
    mesh.set_policy(semantic_cache=SEMANTIC)
    mesh.classifier.analysis = analysis(embedding=EMBEDDING, encoder_sha256=ENCODER)
    return mesh


async def test_a_hit_is_served_at_no_cost_and_says_why(mesh: Mesh) -> None:
    mesh.cache.similar = HIT
    told = await mesh.ask(ask())
    assert (told.text, told.level) == ("Paris, as before.", CacheLevel.SEMANTIC)
    assert told.decision.similarity == 0.97
    assert "0.990 of the 0.950" in told.decision.explanation
    assert (told.decision.model, told.decision.tier) == ("small", Tier.SMALL)
    assert told.decision.analysis is not None
    assert (told.final.costs.cost, told.final.costs.saved) == (0, 32_000)
    assert mesh.scheduler.jobs == []
    assert mesh.admission.calls == 0
    [use] = mesh.usage.booked
    assert use.level is CacheLevel.SEMANTIC
    assert mesh.watcher.searches == ["hit"]


async def test_a_hit_stays_in_no_memory_so_that_each_is_decided_anew(mesh: Mesh) -> None:
    mesh.cache.similar = HIT
    await mesh.ask(ask())
    assert (await mesh.ask(ask())).level is CacheLevel.SEMANTIC
    assert len(mesh.near) == 0
    assert mesh.cache.kept == []


async def test_those_who_follow_get_a_hit_too(mesh: Mesh) -> None:
    mesh.cache.similar = HIT
    await mesh.ask(ask())
    assert mesh.cache.published == ["Paris, as before."]
    assert mesh.cache.flights == {}


async def test_what_is_asked_for_is_what_the_request_needs(mesh: Mesh) -> None:
    mesh.classifier.analysis = replace(mesh.classifier.analysis, flags=frozenset({AnalysisFlag.TRUNCATED}))
    control = CacheControl(max_age=timedelta(minutes=5), min_score=0.9)
    await mesh.ask(ask("And now?", Message(Role.SYSTEM, "Be brief."), Message(Role.USER, "x"), cache_control=control))
    [(_, meaning, terms)] = mesh.cache.searches
    assert (meaning.embedding, meaning.encoder_sha256, meaning.text) == (EMBEDDING, ENCODER, "And now?")
    assert (meaning.has_history, meaning.truncated) == (True, True)
    assert (terms.task, terms.max_error_share) == (Task.QUESTION_ANSWERING, 0.02)
    assert (terms.max_age, terms.min_score) == (timedelta(minutes=5), 0.9)


async def test_a_system_prompt_is_no_history(mesh: Mesh) -> None:
    await mesh.ask(ask("What?", Message(Role.SYSTEM, "Be brief.")))
    assert not mesh.cache.searches[0][1].has_history


@pytest.mark.parametrize(
    ("worth", "asked", "tier"),
    [
        ((0.9, 0.95, 0.98), {}, Tier.SMALL),
        ((0.2, 0.9, 0.98), {}, Tier.MEDIUM),
        ((0.2, 0.3, 0.9), {}, Tier.LARGE),
        ((0.9, 0.95, 0.98), {"tier": 3}, Tier.LARGE),
        ((0.9, 0.95, 0.98), {"model": "medium"}, Tier.MEDIUM),
        ((0.2, 0.9, 0.98), {"quality_floor": 0.95}, Tier.LARGE),
    ],
)
async def test_a_lesser_tiers_answer_never_serves_who_needs_a_better_one(
    mesh: Mesh, worth: tuple[float, float, float], asked: dict[str, Any], tier: Tier
) -> None:
    mesh.classifier.analysis = analysis(*worth, embedding=EMBEDDING, encoder_sha256=ENCODER)
    await mesh.ask(ask(**asked))
    assert mesh.cache.searches[0][2].min_tier is tier


async def test_a_fixed_tier_takes_no_lesser_ones_answers(mesh: Mesh) -> None:
    mesh.set_policy(semantic_cache=SEMANTIC, routing=RoutingPolicy(FixedTier(Tier.LARGE)))
    await mesh.ask(ask())
    assert mesh.cache.searches[0][2].min_tier is Tier.LARGE


@pytest.mark.parametrize(
    "changes",
    [
        {"cache_control": CacheControl(no_cache=True)},
        {"cache_control": CacheControl(max_age=timedelta(0))},
        {"sampling": sampled(temperature=0.5)},
    ],
)
async def test_who_may_not_read_is_not_searched_for(mesh: Mesh, changes: dict[str, Any]) -> None:
    mesh.cache.similar = HIT
    assert (await mesh.ask(ask(**changes))).level is CacheLevel.NONE
    assert mesh.cache.searches == []


async def test_a_policy_that_allows_no_errors_gets_exact_answers_only(mesh: Mesh) -> None:
    mesh.set_policy()
    mesh.cache.similar = HIT
    assert (await mesh.ask(ask())).level is CacheLevel.NONE
    assert mesh.cache.searches == []
    assert mesh.cache.kept[0].meaning is None


async def test_an_embedding_of_an_unknown_encoder_finds_nothing(mesh: Mesh) -> None:
    mesh.cache.similar = HIT
    mesh.classifier.analysis = analysis(embedding=EMBEDDING)
    assert (await mesh.ask(ask())).level is CacheLevel.NONE
    assert mesh.watcher.searches == ["no_embedding"]


async def test_a_search_that_fails_is_a_miss_and_nothing_to_speak_of(
    mesh: Mesh, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def failing(*args: object) -> Similar:
        raise Unavailable("away")

    monkeypatch.setattr(mesh.cache, "search", failing)
    told = await mesh.ask(ask())
    assert (told.text, told.degraded) == ("Paris.", set())
    assert mesh.watcher.searches == ["error"]


async def test_a_classifier_that_is_away_costs_a_named_model_nothing_but_semantic_hits(mesh: Mesh) -> None:
    mesh.classifier.error = Unavailable("away")
    assert (await mesh.ask(ask(model="small"))).degraded == set()
    assert (await mesh.ask(ask())).degraded == {"CLASSIFIER"}


async def test_an_answer_is_kept_with_its_meaning_and_what_it_took(mesh: Mesh) -> None:
    await mesh.ask(ask(cache_control=CacheControl(tags=("docs",))))
    [kept] = mesh.cache.kept
    assert kept.meaning is not None
    assert kept.meaning.embedding == EMBEDDING
    assert (kept.tags, kept.cost) == (("docs",), 540)
    assert kept.found.lease == b"lease 1"


@pytest.mark.parametrize(("finding", "right"), [(AGREES, True), (DISAGREES, False)])
async def test_an_exploration_is_compared_and_reported(mesh: Mesh, finding: str, right: bool) -> None:
    mesh.cache.similar = EXPLORED
    mesh.judge.opinion = Opinion(0.5, (finding,), "j1")
    assert (await mesh.ask(ask())).text == "Paris."
    assert mesh.cache.reports == [(b"receipt", right)]
    [judged] = mesh.judge.asked
    assert (judged.answer, judged.reference_answer) == ("Paris, as before.", "Paris.")


async def test_equal_texts_need_no_judge_and_doubt_is_no_evidence(mesh: Mesh) -> None:
    mesh.cache.similar = EXPLORED
    await mesh.ask(ask())
    assert mesh.cache.reports == []  # the judge found neither
    mesh.cache.similar = replace(EXPLORED, answer=answer(" Paris.\n"))
    await mesh.ask(ask("again"))
    assert mesh.cache.reports == [(b"receipt", True)]
    assert len(mesh.judge.asked) == 1


async def test_a_hit_is_remembered_for_its_callers_word(mesh: Mesh) -> None:
    mesh.cache.similar = HIT
    told = await mesh.ask(ask())
    kept = mesh.outcomes.told[told.decision.request_id]
    assert (kept.lookup_id, kept.cache_level) == (b"receipt", CacheLevel.SEMANTIC)


@pytest.mark.parametrize("scope", [CacheScope.TEAM, CacheScope.USER])
async def test_no_team_or_user_gets_anothers_answer_from_any_level(mesh: Mesh, scope: CacheScope) -> None:
    personal = policy(semantic_cache=SemanticCachePolicy(scope=scope))
    grant = mesh.keys.grants["fk_acme"]
    for key, principal in (
        ("fk_ann", Principal("acme", "red", "ann", "k_ann")),
        ("fk_bob", Principal("acme", "blue", "bob", "k_bob")),
        ("fk_nobody", Principal("acme", "", "", "k_nobody")),
    ):
        mesh.keys.grants[key] = replace(grant, principal=principal, policy=personal)
    assert (await mesh.ask(ask(), "fk_ann")).level is CacheLevel.NONE
    assert (await mesh.ask(ask(), "fk_ann")).level is CacheLevel.NEAR
    assert (await mesh.ask(ask(), "fk_bob")).level is CacheLevel.NONE
    assert (await mesh.ask(ask(), "fk_nobody")).level is CacheLevel.NONE
    assert (await mesh.ask(ask(), "fk_nobody")).level is CacheLevel.NONE
    same = ask("private", idempotency_key="k")
    ids = {(await mesh.ask(same, key)).decision.request_id for key in ("fk_ann", "fk_bob", "fk_nobody")}
    assert len(ids) == 3
    mesh.forget_near()
    assert (await mesh.ask(ask(), "fk_ann")).level is CacheLevel.EXACT
    assert len({key.sharer for _, _, key in mesh.cache.entries}) == 2
