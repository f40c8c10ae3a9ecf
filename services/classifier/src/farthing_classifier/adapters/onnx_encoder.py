"""The MiniLM encoder on ONNX Runtime, with its tokenizer."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import numpy as np
import onnxruntime as ort
from tokenizers import Tokenizer

from farthing_classifier.adapters.model_files import ModelFilesError, read_checked, read_json
from farthing_classifier.adapters.onnx_runtime import CPU, Device, provider_of, session
from farthing_classifier.domain import window
from farthing_classifier.ports import Encoded, EncoderInfo, Reading, Vector

MODEL_FILE: Final = "encoder.onnx"
TOKENIZER_FILE: Final = "tokenizer.json"
MANIFEST_FILE: Final = "manifest.json"
MIN_WINDOW_TOKENS: Final = 8

# Fewer tokens than this are sooner done by one thread than shared out to several.
WIDE_TOKENS: Final = 32

_MARKS: Final = 2  # [CLS] and [SEP], around every text


class OnnxEncoder:
    """Reads a text in one pass of at most `window_tokens` tokens: the whole of it, or its beginning and its end.

    `wide` has all threads, for a text that is alone; `narrow` one, for texts beside each other. Their results are
    equal to the bit.
    """

    def __init__(
        self, wide: ort.InferenceSession, narrow: ort.InferenceSession, tokenizer: Tokenizer, info: EncoderInfo
    ) -> None:
        self._wide = wide
        self._narrow = narrow
        self._tokenizer = tokenizer
        self._info = info
        self._start, self._end = _mark(tokenizer, "[CLS]"), _mark(tokenizer, "[SEP]")

    @classmethod
    def load(cls, folder: Path, *, window_tokens: int, threads: int, device: Device = Device.CPU) -> OnnxEncoder:
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
        model = read_checked(folder / MODEL_FILE, model_sha256, remedy)
        wide = session(model, threads, device)
        narrow = session(model, 1, device) if threads > 1 and provider_of(wide) == CPU else wide
        info = EncoderInfo(name, model_sha256, dimension, window_tokens, provider_of(wide))
        return cls(wide, narrow, _tokenizer(read_checked(folder / TOKENIZER_FILE, tokenizer_sha256, remedy)), info)

    @property
    def info(self) -> EncoderInfo:
        """Which encoder this is."""
        return self._info

    def encode(self, text: str) -> Encoded:
        """The unit vector of one text."""
        return self.embed(self.read([text])[0], alone=True)

    def read(self, texts: Sequence[str]) -> list[Reading]:
        """Texts in tokens. One without any known token has none but the marks, and 0 `prompt_tokens`."""
        ends = [window.ends(text) for text in texts]
        parts = [part for each in ends for part in ((each.head, each.tail) if each.tail else (each.head,))]
        # The batch form gives other threads the interpreter while it works; the single form does not.
        read = iter(self._tokenizer.encode_batch_fast(parts, add_special_tokens=False))
        return [self._reading(each, next(read).ids, next(read).ids if each.tail else []) for each in ends]

    def embed(self, reading: Reading, *, alone: bool) -> Encoded:
        """One pass."""
        model = self._wide if alone and len(reading.ids) > WIDE_TOKENS else self._narrow
        input_ids = np.asarray([reading.ids], dtype=np.int32)
        embedding: Vector = model.run(
            ["embedding"], {"input_ids": input_ids, "attention_mask": np.ones_like(input_ids)}
        )[0][0]
        return Encoded(embedding, reading.prompt_tokens, reading.truncated)

    def _reading(self, ends: window.Ends, head: list[int], tail: list[int]) -> Reading:
        ids = [*head, *tail]
        room = self._info.window_tokens - _MARKS
        tokens = window.estimate_tokens(len(ids), len(ends.head) + len(ends.tail), ends.hidden_chars)
        truncated = len(ids) > room or ends.hidden_chars > 0
        return Reading((self._start, *window.fit(ids, room), self._end), tokens, truncated)


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
