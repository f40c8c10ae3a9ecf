"""A model that repeats the words of its prompt, for tests and benches. A token is a word."""

import time
from typing import Any

from farthing_triton.base import DecoupledModel
from farthing_triton.contract import Answer, BadRequest, Request, read


class EchoModel(DecoupledModel):
    """Answers at once, or with `delay_ms` (a parameter) before each word."""

    def load(self) -> None:
        """Read the delay."""
        self._delay_s = int(self.parameters.get("delay_ms", "0")) / 1000

    def execute(self, requests: list[Any]) -> None:
        """Without a delay, answering is less work than handing over to a thread."""
        if self._delay_s:
            super().execute(requests)
            return
        for raw in requests:
            sender = raw.get_response_sender()
            try:
                request = read(raw)
                self.generate(request, Answer(request, sender))
            except BadRequest as error:
                Answer(Request(""), sender).fail(str(error))

    def generate(self, request: Request, answer: Answer) -> None:
        """The words of the prompt, up to max_tokens."""
        words = request.prompt.split()
        spoken = words[: request.max_tokens]
        for index, word in enumerate(spoken):
            if self._delay_s:
                time.sleep(self._delay_s)
                if answer.cancelled:
                    answer.abandon()
                    return
            text = f" {word}" if index else word
            if index < len(spoken) - 1:
                answer.add(text, 1, len(words))
            else:
                answer.finish(text, 1, len(words), "length" if len(words) > request.max_tokens else "stop")
        if not spoken:
            answer.finish("", 0, 0, "stop")


TritonPythonModel = EchoModel
