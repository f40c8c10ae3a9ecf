"""What the first stage sees of a text: the whole of it, and the rest of it without its beginning."""

from __future__ import annotations

from dataclasses import dataclass

from farthing_classifier.domain import lexical, ngrams, wording


@dataclass(frozen=True, slots=True)
class View:
    """The buckets of its n-grams, and its surface."""

    ngrams: tuple[int, ...]
    lexical: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class Views:
    """What a small model makes of a text is judged by the rest alone, so that nothing put before it counts."""

    whole: View
    rest: View


def of(text: str) -> Views:
    """Both views."""
    read = wording.plain(text)
    return Views(_view(read), _view(wording.plain(wording.rest_of_plain(read))))


def _view(read: str) -> View:
    """One, of a plain text: what n-grams and surface see is made once for both."""
    return View(tuple(ngrams.buckets_of_plain(read)), lexical.features_of_plain(read))
