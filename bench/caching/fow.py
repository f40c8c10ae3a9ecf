"""Adversarial pairs of fow-cache (PyPI): what is served, what is served wrongly, by class, beside the rules of peers.

Nothing was trained or tuned on it; the threshold is the one that pair_training chose on its own held-out traps.
"""

import os
import statistics
import time
from argparse import Namespace
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from bench.caching import pairs, peers
from bench.results import Figure, quantile
from farthing_cache.adapters.onnx_verifier import OnnxVerifier
from farthing_cache.domain import profile
from farthing_cache.domain.eligibility import Rules, ineligible, stands_alone
from farthing_cache.domain.veto import veto

NOTES = (
    "fow-cache 0.1.0: 300 pairs that should be served, 300 traps, 240 pairs of conversations. fow_served, "
    "fow_traps_wrong: veto, verifier at its shipped threshold, prompts that depend on the user allowed (a "
    "partition of one user), those that depend on the time not; _shared: neither allowed. Conversations: safe "
    "mode serves equal histories only; else the last message must stand alone. gptcache, redisvl: their "
    "default rules on our encoder; _published: with their own models, as fow-cache's author states. verifier: "
    "one prompt against 5 candidates (profile of the prompt, features, veto, model), wall clock and own "
    "processor time. Intervals: 2,000 bootstrap samples. Load average of the machine at the start: "
    f"{os.getloadavg()[0]:.1f}."
)

Item = dict[str, Any]
Served = npt.NDArray[np.bool_]
_TIMED = 2_000
_CANDIDATES = 5


def run(options: Namespace) -> dict[str, Figure]:
    """All figures."""
    try:
        from fow_cache.data import load_conversations, load_questions
    except ImportError:
        raise SystemExit("bench.caching fow needs fow-cache: uv pip install fow-cache") from None
    questions, conversations = load_questions(), load_conversations()
    texts = [text for item in questions for text in (item["a"], item["b"])]
    texts += [_last(item[side]) for item in conversations for side in "ab"]
    read = pairs.read(texts, options.encoder, options.cache)
    verifier = OnnxVerifier.load()
    rng = np.random.default_rng(options.seed)
    figures: dict[str, Figure] = {"verifier_threshold": verifier.threshold}
    figures |= _questions(questions, read, verifier, rng)
    figures |= _conversations(conversations, read, verifier)
    return figures | _latency(questions, verifier)


def _questions(
    items: Sequence[Item], read: pairs.Texts, verifier: OnnxVerifier, rng: np.random.Generator
) -> dict[str, Figure]:
    same = np.asarray([item["same_answer"] for item in items])
    kinds = np.asarray([item["category"] for item in items])
    scored = _scored(items, read, verifier, lambda side: str(side))
    verified = scored.passed & (scored.score >= verifier.threshold)
    own = verified & _eligible(items, read, Rules(personal=True))
    figures: dict[str, Figure] = {
        "fow_served": _interval(own[same], rng),
        "fow_traps_wrong": _interval(own[~same], rng),
        "fow_ranking_auc": _auc(np.where(scored.passed, scored.score, 0.0), same),
        "fow_cosine_auc": _auc(scored.cosine, same),
        "fow_veto_alone_served": float(scored.passed[same].mean()),
        "fow_veto_alone_traps_wrong": float(scored.passed[~same].mean()),
    }
    shared = verified & _eligible(items, read, Rules())
    figures |= {"fow_served_shared": float(shared[same].mean()), "fow_traps_wrong_shared": float(shared[~same].mean())}
    for kind in sorted(set(kinds)):
        figures[f"fow_{kind}_{'served' if same[kinds == kind].all() else 'wrong'}"] = float(own[kinds == kind].mean())
    for name, rule in peers.RULES.items():
        served = np.asarray([rule(cosine) for cosine in scored.cosine])
        figures |= {
            f"fow_served_{name}": float(served[same].mean()),
            f"fow_traps_wrong_{name}": float(served[~same].mean()),
        }
    for name, (right, wrong) in peers.PUBLISHED.items():
        figures |= {f"fow_served_{name}_published": right, f"fow_traps_wrong_{name}_published": wrong}
    return figures


def _conversations(items: Sequence[Item], read: pairs.Texts, verifier: OnnxVerifier) -> dict[str, Figure]:
    same = np.asarray([item["same_answer"] for item in items])
    scored = _scored(items, read, verifier, _last)
    last_message = scored.passed & (scored.score >= verifier.threshold)
    alone = np.asarray(
        [all(stands_alone(read.profiles[read.place[_last(item[side])]]) for side in "ab") for item in items]
    )
    equal = np.asarray([item["a"][:-1] == item["b"][:-1] for item in items])
    ours, safe = last_message & (alone | equal), last_message & equal
    return {
        "fow_conversation_served": float(ours[same].mean()),
        "fow_conversation_wrong": float(ours[~same].mean()),
        "fow_conversation_safe_served": float(safe[same].mean()),
        "fow_conversation_safe_wrong": float(safe[~same].mean()),
        "fow_conversation_last_message_wrong": float(last_message[~same].mean()),
    }


def _last(messages: Sequence[dict[str, str]]) -> str:
    return messages[-1]["content"]


def _scored(
    items: Sequence[Item], read: pairs.Texts, verifier: OnnxVerifier, text: Callable[[Any], str]
) -> pairs.Scored:
    left, right = (np.asarray([read.place[text(item[side])] for item in items]) for side in "ab")
    return pairs.score(read, left, right, verifier)


def _eligible(items: Sequence[Item], read: pairs.Texts, rules: Rules) -> Served:
    return np.asarray(
        [all(ineligible(read.profiles[read.place[item[side]]], rules) is None for side in "ab") for item in items]
    )


def _interval(served: Served, rng: np.random.Generator) -> tuple[float, float, float]:
    drawn = rng.choice(served, (2_000, len(served))).mean(axis=1)
    low, high = np.quantile(drawn, [0.025, 0.975])
    return float(served.mean()), float(low), float(high)


def _auc(scores: pairs.Floats, same: Served) -> float:
    right, wrong = scores[same][:, None], scores[~same][None, :]
    return float((right > wrong).mean() + 0.5 * (right == wrong).mean())


def _latency(items: Sequence[Item], verifier: OnnxVerifier) -> dict[str, Figure]:
    texts = [item["a"] for item in items]
    kept = [profile.of(text, pairs.KEY) for text in texts]
    wall, own = [], []
    for at in range(_TIMED):
        candidates = [kept[(at + step) % len(kept)] for step in range(_CANDIDATES)]
        begun, spent = time.perf_counter(), time.thread_time()
        asked = profile.of(texts[at % len(texts)], pairs.KEY)
        allowed = [one for one in candidates if veto(asked, one) is None]
        verifier.scores(asked, allowed or candidates, [0.9] * len(allowed or candidates))
        own.append(1e3 * (time.thread_time() - spent))
        wall.append(1e3 * (time.perf_counter() - begun))
    return {
        "verifier_p50_ms": statistics.median(wall),
        "verifier_p99_ms": quantile(wall, 0.99),
        "verifier_processor_p50_ms": statistics.median(own),
        "verifier_processor_p99_ms": quantile(own, 0.99),
    }
