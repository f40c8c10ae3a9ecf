"""The MiniLM encoder on ONNX Runtime, with its tokenizer."""

from __future__ import annotations

from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from farthing_classifier.adapters.model_files import ModelFilesError, read_checked, read_json
from farthing_classifier.adapters.onnx_runtime import provider_of, session
from farthing_classifier.domain import window
from farthing_classifier.ports import Encoded, EncoderInfo, Vector

MODEL_FILE: Final = "encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
MANIFEST_FILE: Final = "manifest.json"
MIN_WINDOW_TOKENS: Final = 8

_MARKS: Final = 2  # [CLS] and [SEP], around every text


class OnnxEncoder:
    """Reads a text in one pass of at most `window_tokens` tokens: the whole of it, or its beginning and its end."""

    def __init__(self, model: ort.InferenceSession, tokenizer: Tokenizer, info: EncoderInfo) -> None:
        self._model = model
        self._tokenizer = tokenizer
        self._info = info
        self._start, self._end = _mark(tokenizer, "[CLS]"), _mark(tokenizer, "[SEP]")

    @classmethod
    def load(cls, folder: Path, *, window_tokens: int, threads: int) -> OnnxEncoder:
        """The encoder that `farthing_models.export_encoder` wrote into `folder`, each file checked by its hash."""
        remedy = f"run `python -m farthing_models.export_encoder --out {folder}`"
        manifest = read_json(folder / MANIFEST_FILE, remedy)
        try:
            hashes = {name: str(entry["sha256"]) for name, entry in manifest["files"].items()}
            name, dimension = str(manifest["name"]), int(manifest["dimension"])
            longest = int(manifest["max_positions"])
            model_sha256, tokenizer_sha256 = hashes[MODEL_FILE], hashes[TOKENIZER_FILE]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise ModelFilesError(f"{folder / MANIFEST_FILE} is not a manifest of the encoder: {remedy}") from None
        if not MIN_WINDOW_TOKENS <= window_tokens <= longest:
            raise ModelFilesError(f"a window of {window_tokens} tokens is not within {MIN_WINDOW_TOKENS} and {longest}")
        loaded = session(read_checked(folder / MODEL_FILE, model_sha256, remedy), threads)
        info = EncoderInfo(name, model_sha256, dimension, window_tokens, provider_of(loaded))
        return cls(loaded, _tokenizer(read_checked(folder / TOKENIZER_FILE, tokenizer_sha256, remedy)), info)

    @property
    def info(self) -> EncoderInfo:
        """Which encoder this is."""
        return self._info

    def encode(self, text: str) -> Encoded:
        """The unit vector of a text. Text without any known token gets the vector of nothing, and 0 tokens."""
        ends = window.ends(text)
        # The batch form gives other threads the interpreter while it works; the single form does not.
        parts = self._tokenizer.encode_batch_fast(
            [ends.head, ends.tail] if ends.tail else [ends.head], add_special_tokens=False
        )
        ids = [token for part in parts for token in part.ids]
        room = self._info.window_tokens - _MARKS
        embedding = self._embed([self._start, *window.fit(ids, room), self._end])
        tokens = window.estimate_tokens(len(ids), len(ends.head) + len(ends.tail), ends.hidden_chars)
        return Encoded(embedding, tokens, truncated=len(ids) > room or ends.hidden_chars > 0)

    def _embed(self, ids: list[int]) -> Vector:
        input_ids = np.asarray([ids], dtype=np.int32)
        feeds = {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)}
        embedding: Vector = self._model.run(["embedding"], feeds)[0][0]
        return embedding


def _mark(tokenizer: Tokenizer, name: str) -> int:
    number = tokenizer.token_to_id(name)
    if number is None:
        raise ModelFilesError(f"the tokenizer has no {name}")
    return int(number)


def _tokenizer(content: bytes) -> Tokenizer:
    try:
        tokenizer = Tokenizer.from_buffer(content)
    except Exception as error:  # the library raises plain Exception
        raise ModelFilesError(f"the tokenizer cannot be loaded: {type(error).__name__}") from None
    tokenizer.no_padding()
    tokenizer.no_truncation()
    # "[SEP]" in a prompt is six characters that somebody typed, not the end of the text.
    tokenizer.encode_special_tokens = True
    return tokenizer
