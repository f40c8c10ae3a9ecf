"""What a generation has used so far."""

from __future__ import annotations

from farthing_kit.usage import TokenUsage
from farthing_scheduler.domain.job import Chunk


class Tally:
    """Counts along while chunks pass, for the generation that does not live to say its own sum."""

    def __init__(self) -> None:
        self._input = 0
        self._output = 0

    def add(self, chunk: Chunk) -> None:
        """Take over a chunk's totals, which never shrink."""
        self._input = max(self._input, chunk.input_tokens)
        self._output = max(self._output, chunk.output_tokens)

    @property
    def usage(self) -> TokenUsage:
        """The tokens so far. Which of the prompt's came from an engine's cache is only known at the end, so that all
        count as computed."""
        return TokenUsage(fresh_input=self._input, output=self._output)
