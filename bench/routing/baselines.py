"""What a router must beat: chance, the length of the prompt, neighbours, and rules over keywords."""

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

Matrix = npt.NDArray[np.float64]
Numbers = npt.NDArray[np.int64]

NEIGHBOURS = 80

# The rules below are a re-implementation of LiteLLM's complexity router from its documentation (seven weighted
# dimensions, their weights, the limits of 15 and 400 tokens). Its keyword lists are longer than these, and none of them
# was tuned here.
WEIGHTS = {
    "tokens": 0.10,
    "code": 0.30,
    "reasoning": 0.25,
    "technical": 0.25,
    "simple": 0.05,
    "steps": 0.03,
    "questions": 0.02,
}
SHORT_TOKENS, LONG_TOKENS = 15, 400
CHARS_PER_TOKEN = 4


def _any_of(*words: str) -> re.Pattern[str]:
    return re.compile(rf"\b(?:{'|'.join(map(re.escape, words))})\b", re.IGNORECASE)


CODE = _any_of(
    "function", "class", "def", "const", "let", "var", "import", "export", "return", "async", "await", "try", "catch",
    "exception", "error", "debug", "api", "endpoint", "request", "response", "database", "sql", "query", "schema",
    "algorithm", "implement", "refactor", "optimize", "python", "javascript", "typescript", "java", "rust", "golang",
    "react", "docker", "kubernetes", "git", "commit", "deploy", "regex",
)  # fmt: skip
REASONING = _any_of(
    "step by step", "think through", "let's think", "reason through", "analyze this", "break down", "explain your "
    "reasoning", "show your work", "chain of thought", "think carefully", "consider all", "evaluate", "pros and cons",
    "compare and contrast", "weigh the options", "logical", "deduce", "infer", "conclude",
)  # fmt: skip
TECHNICAL = _any_of(
    "architecture", "distributed", "scalable", "microservice", "machine learning", "neural network", "deep learning",
    "encryption", "authentication", "authorization", "performance", "latency", "throughput", "benchmark", "concurrency",
    "parallel", "threading", "memory", "cpu", "gpu", "protocol", "network", "infrastructure", "cloud",
)  # fmt: skip
SIMPLE = _any_of(
    "what is", "what's", "define", "definition of", "who is", "who was", "when did", "when was", "where is", "how many",
    "how much", "yes or no", "true or false", "simple", "brief", "short", "quick", "hello", "hi", "hey", "thanks",
    "thank you", "goodbye", "bye", "okay",
)  # fmt: skip
STEPS = re.compile(
    r"\bfirst\b.{1,200}\bthen\b|\bstep\s*\d|^[^\S\n]*+\d+\.\s|\b[a-c]\)\s", re.IGNORECASE | re.DOTALL | re.MULTILINE
)


def rules(texts: Sequence[str]) -> Matrix:
    """The weighted score of each text: higher is taken for more complex."""
    return np.asarray([sum(WEIGHTS[name] * score for name, score in _dimensions(text).items()) for text in texts])


def _dimensions(text: str) -> dict[str, float]:
    tokens = len(text) / CHARS_PER_TOKEN
    return {
        "tokens": -1.0 if tokens < SHORT_TOKENS else 1.0 if tokens > LONG_TOKENS else 0.0,
        "code": _graded(CODE, text, 1, 2),
        "reasoning": _graded(REASONING, text, 1, 2),
        "technical": _graded(TECHNICAL, text, 2, 4),
        "simple": -1.0 if SIMPLE.search(text) else 0.0,
        "steps": 0.5 if STEPS.search(text) else 0.0,
        "questions": 0.5 if text.count("?") > 3 else 0.0,
    }


def _graded(pattern: re.Pattern[str], text: str, some: int, many: int) -> float:
    distinct = len({found.lower() for found in pattern.findall(text)})
    return 1.0 if distinct >= many else 0.5 if distinct >= some else 0.0


def lengths(texts: Sequence[str]) -> Matrix:
    """Characters: longer is taken for harder."""
    return np.asarray([float(len(text)) for text in texts])


def neighbours(embeddings: Matrix, gains: Matrix, folds: Numbers) -> Matrix:
    """The mean gain of the nearest questions of the other folds."""
    scores = np.zeros(len(gains))
    for fold in np.unique(folds):
        test, train = folds == fold, folds != fold
        near = np.argpartition(-(embeddings[test] @ embeddings[train].T), NEIGHBOURS, axis=1)[:, :NEIGHBOURS]
        scores[test] = gains[train][near].mean(axis=1)
    return scores
