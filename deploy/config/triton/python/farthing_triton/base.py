"""A decoupled Triton model: each request is answered later, through its sender."""

import json
from typing import Any

import triton_python_backend_utils as pb_utils

from farthing_triton import lifeline
from farthing_triton.contract import Answer, Request, read
from farthing_triton.line import STOPPING, Line
from farthing_triton.sampling import BadRequest

DEFAULT_QUEUE = 64
# Triton waits 6 s for its models (serve.py), and some of it goes to unloading: what runs until then is cut off.
LAST_WORDS_S = 2.0


class DecoupledModel:
    """What Triton calls. A subclass says how one request is answered."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters of config.pbtxt."""
        config = json.loads(args["model_config"])
        self.name: str = config["name"]
        self.parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self.slots = int(self.parameters.get("slots", "1"))
        self.cut_off = False
        self.load()
        self._line = Line(self.name, self.slots, int(self.parameters.get("queue", str(DEFAULT_QUEUE))))
        lifeline.watch(self.stop)

    def load(self) -> None:
        """Get ready; raises when that is not possible."""

    def unload(self) -> None:
        """Give back what `load` took."""

    def generate(self, request: Request, answer: Answer) -> None:
        """Answer one request, as long as it has not `ended_early`. Raises BadRequest."""
        raise NotImplementedError

    def ended_early(self, answer: Answer) -> bool:
        """End the answer if nobody waits for it any more, or if the server cannot; whether that was so."""
        if answer.cancelled:
            answer.abandon()
        elif self.cut_off:
            answer.refuse(STOPPING)
        else:
            return False
        return True

    def execute(self, requests: list[Any]) -> None:
        """Take requests; each is answered later, through its sender."""
        for raw in requests:
            self._take(raw)

    def stop(self) -> None:
        """The server is stopping: refuse what waits, and give what runs a little time."""
        self._line.stop()
        self._line.join(LAST_WORDS_S)
        self.cut_off = True

    def finalize(self) -> None:
        """Called after the last request has ended."""
        self._line.stop()
        self.unload()

    def _take(self, raw: Any) -> None:
        sender = raw.get_response_sender()
        try:
            request = read(raw)
        except BadRequest as error:
            Answer(Request(""), sender).reject(str(error))
            return
        self._line.add(_Job(self, request, Answer(request, sender)))


class _Job:
    """One request in the line."""

    def __init__(self, model: DecoupledModel, request: Request, answer: Answer) -> None:
        self._model, self._request, self._answer = model, request, answer

    @property
    def cancelled(self) -> bool:
        return self._answer.cancelled

    def run(self) -> None:
        try:
            self._model.generate(self._request, self._answer)
        except BadRequest as error:
            self._answer.reject(str(error))
        except Exception as error:  # what the engine says may quote the prompt: only the kind leaves this process
            pb_utils.Logger.log_error(f"{self._model.name}: {type(error).__name__}")
            self._answer.fail("the model failed")

    def abandon(self) -> None:
        self._answer.abandon()

    def refuse(self, why: str) -> None:
        self._answer.refuse(why)
