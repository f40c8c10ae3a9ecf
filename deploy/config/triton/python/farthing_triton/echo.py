"""A model that repeats the words of its prompt, for tests and benches. A token is a word."""

import time

from farthing_triton.base import DecoupledModel
from farthing_triton.contract import Answer, Request

# Each response takes 0.1 to 0.4 ms of two processes: an instant answer comes in a few pieces, not word by word.
MAX_PIECES = 4


class EchoModel(DecoupledModel):
    """Answers at once, or with `delay_ms` (a parameter) before each word."""

    def load(self) -> None:
        """Read the delay."""
        self._delay_s = int(self.parameters.get("delay_ms", "0")) / 1000

    def begin(self, identity: str, request: Request, answer: Answer) -> None:
        """Without a delay, answering is less work than handing over to a thread."""
        if self._delay_s:
            super().begin(identity, request, answer)
        else:
            self.generate(request, answer)

    def generate(self, request: Request, answer: Answer) -> None:
        """The words of the prompt, up to max_tokens."""
        words = request.prompt.split()
        spoken = words[: request.sampling.max_tokens]
        reason = "length" if len(words) > len(spoken) else "stop"
        size = 1 if self._delay_s else -(-len(spoken) // MAX_PIECES) or 1
        for start in range(0, len(spoken) - size, size):
            if self._waited_in_vain(answer):
                return
            answer.add(_piece(spoken, start, size), size, len(words))
        if not self._waited_in_vain(answer):
            start = (len(spoken) - 1) // size * size if spoken else 0
            answer.finish(_piece(spoken, start, size), len(spoken) - start, len(words), reason)

    def _waited_in_vain(self, answer: Answer) -> bool:
        if not self._delay_s:
            return False
        time.sleep(self._delay_s)
        return self.ended_early(answer)


def _piece(words: list[str], start: int, size: int) -> str:
    return (" " if start else "") + " ".join(words[start : start + size])


TritonPythonModel = EchoModel
