"""A decoupled Triton model that runs each request on a thread of a bounded pool."""

import json
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import triton_python_backend_utils as pb_utils

from farthing_triton.contract import Answer, BadRequest, Request, read

DEFAULT_QUEUE = 64


class DecoupledModel:
    """What Triton calls. A subclass says how one request is answered."""

    def initialize(self, args: dict[str, str]) -> None:
        """Read the parameters of config.pbtxt."""
        config = json.loads(args["model_config"])
        self.name: str = config["name"]
        self.parameters = {key: value["string_value"] for key, value in config.get("parameters", {}).items()}
        self.slots = int(self.parameters.get("slots", "1"))
        self._limit = self.slots + int(self.parameters.get("queue", str(DEFAULT_QUEUE)))
        self._running = 0
        self._lock = threading.Lock()
        self._threads = ThreadPoolExecutor(self.slots, thread_name_prefix=self.name)
        self.load()

    def load(self) -> None:
        """Get ready; raises when that is not possible."""

    def generate(self, request: Request, answer: Answer) -> None:
        """Answer one request. Raises BadRequest."""
        raise NotImplementedError

    def execute(self, requests: list[Any]) -> None:
        """Take requests; each is answered later, through its sender."""
        for request in requests:
            self._take(request)

    def finalize(self) -> None:
        """Give up what waits."""
        self._threads.shutdown(wait=False, cancel_futures=True)

    def _take(self, raw: Any) -> None:
        sender = raw.get_response_sender()
        try:
            request = read(raw)
        except BadRequest as error:
            Answer(Request(""), sender).fail(str(error))
            return
        answer = Answer(request, sender)
        if not self._enter():
            answer.fail("Exceeds maximum queue size")
            return
        self._threads.submit(self._run, request, answer)

    def _enter(self) -> bool:
        with self._lock:
            if self._running >= self._limit:
                return False
            self._running += 1
            return True

    def _run(self, request: Request, answer: Answer) -> None:
        try:
            if answer.cancelled:
                answer.abandon()
            else:
                self.generate(request, answer)
        except BadRequest as error:
            answer.fail(str(error))
        except Exception as error:  # what the engine says may quote the prompt: only the kind leaves this process
            pb_utils.Logger.log_error(f"{self.name}: {type(error).__name__}")
            answer.fail("the model failed")
        finally:
            with self._lock:
                self._running -= 1
