"""Embeddings of many texts, kept on disk so that each text is read once."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from farthing_classifier.ports import Encoder

Embeddings = npt.NDArray[np.float32]


def embeddings(texts: Sequence[str], encoder: Encoder, cache: Path) -> Embeddings:
    """One unit vector a row. `cache` is a folder; texts that it lacks are read, and added."""
    path = cache / f"texts-{encoder.info.sha256[:12]}-{encoder.info.window_tokens}.npz"
    known: dict[bytes, int] = {}
    kept = np.zeros((0, encoder.info.dimension), np.float32)
    if path.is_file():
        with np.load(path) as stored:
            known, kept = {bytes(name): at for at, name in enumerate(stored["names"])}, stored["vectors"]
    names = [hashlib.sha256(text.encode()).digest()[:16] for text in texts]
    missing = {name: text for name, text in zip(names, texts, strict=True) if name not in known}
    if missing:
        read = np.asarray([encoder.encode(text).embedding for text in missing.values()], np.float32)
        known |= {name: len(kept) + at for at, name in enumerate(missing)}
        kept = np.vstack([kept, read])
        cache.mkdir(parents=True, exist_ok=True)
        np.savez(path, names=np.asarray([np.void(name) for name in known]), vectors=kept)
    return np.asarray(kept[[known[name] for name in names]])
