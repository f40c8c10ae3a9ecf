"""Turns the pieces of a stream into progress: whole characters, exact totals."""

from __future__ import annotations

import codecs

from farthing_inference.adapters.triton.dialect import Piece
from farthing_inference.domain.errors import EngineFailed
from farthing_inference.domain.generation import Progress


class Tally:
    """Sums up one stream."""

    def __init__(self) -> None:
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._input_tokens: int | None = None
        self._output_tokens = 0

    def add(self, piece: Piece) -> Progress:
        """The progress after one more piece. Bytes that begin a character wait for its end; at the end of the stream,
        bytes that never became one show as U+FFFD. Raises EngineFailed when an answer ends uncounted: it could not be
        charged exactly."""
        if piece.input_tokens is not None:
            self._input_tokens = piece.input_tokens
        self._output_tokens += piece.new_output_tokens
        finished = piece.finish is not None
        if finished and self._input_tokens is None:
            raise EngineFailed("the model does not count tokens")
        text = self._decoder.decode(piece.text, final=finished)
        return Progress(text, self._input_tokens or 0, self._output_tokens, piece.finish, piece.logprob)
