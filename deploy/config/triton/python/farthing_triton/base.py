"""A decoupled Triton model: each request is answered later, through its sender."""

import json
from typing import Any

import triton_python_backend_utils as pb_utils

from farthing_triton import lifeline
from farthing_triton.contract import CONTROL_TOKENS, STOP, Answer, Request, command, read
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
        self.control_tokens: list[str] = []
        self._jobs: dict[str, _Job] = {}
        self.load()
        self._line = Line(self.name, self.slots, int(self.parameters.get("queue", str(DEFAULT_QUEUE))))
        lifeline.watch(self.stop)

    def load(self) -> None:
        """Get ready, and set `control_tokens` if there are any; raises when that is not possible."""

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

    def begin(self, identity: str, request: Request, answer: Answer) -> None:
        """Have a request answered."""
        job = _Job(self, identity, request, answer)
        if identity:
            self._jobs[identity] = job
        self._line.add(job)

    def forget(self, identity: str) -> None:
        """A job is over."""
        self._jobs.pop(identity, None)

    def _take(self, raw: Any) -> None:
        answer = Answer(Request(""), raw.get_response_sender())
        try:
            word = command(raw)
            if not word:
                request = read(raw)
                self.begin(raw.request_id(), request, answer.to(request))
            elif word == STOP:
                self._stop_job(raw.request_id())
                answer.abandon()
            elif word == CONTROL_TOKENS:
                answer.tell(json.dumps(self.control_tokens))
            else:
                raise BadRequest(f"command must be {STOP} or {CONTROL_TOKENS}")
        except BadRequest as error:
            answer.reject(str(error))

    def _stop_job(self, identity: str) -> None:
        job = self._jobs.get(identity)
        if job is not None:
            job.stop()
            self._line.drop(job)


class _Job:
    """One request in the line."""

    def __init__(self, model: DecoupledModel, identity: str, request: Request, answer: Answer) -> None:
        self._model, self._identity, self._request, self._answer = model, identity, request, answer

    def stop(self) -> None:
        """The caller said that it is gone."""
        self._answer.stopped = True

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
        finally:
            self._model.forget(self._identity)

    def abandon(self) -> None:
        self._model.forget(self._identity)
        self._answer.abandon()

    def refuse(self, why: str) -> None:
        self._model.forget(self._identity)
        self._answer.refuse(why)
