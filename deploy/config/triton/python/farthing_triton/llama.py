"""Language models on a CPU: llama.cpp in process, which batches the requests in its slots continuously."""

import math
import os
import secrets
from pathlib import Path
from typing import Any

import xllamacpp

from farthing_triton.base import DecoupledModel
from farthing_triton.contract import Answer, Request
from farthing_triton.sampling import BadRequest, Sampling
from farthing_triton.vocabulary import control_tokens

QUIET = -1
MAX_THREADS = 16  # beyond that, small models only get slower
CGROUP_QUOTA = Path("/sys/fs/cgroup/cpu.max")
# Tokens of a prompt that are computed in one step: between two, a cancelled request ends, and others get their turn.
PROMPT_BATCH = 256
LEAST_LOGPROB = -100.0


class LlamaModel(DecoupledModel):
    """Parameters: `weights` (a file in FARTHING_TRITON_WEIGHTS), `slots`, `context_tokens` of each slot, `threads`,
    `stop` (texts that end an answer, with | between them: for base models, which would go on asking themselves), `bos`
    (what the tokenizer puts before a prompt: taken off one that begins with it, so that it is not there twice)."""

    def load(self) -> None:
        """Read the weights."""
        path = Path(os.environ["FARTHING_TRITON_WEIGHTS"]) / self.parameters["weights"]
        if not path.exists():
            raise RuntimeError(f"{path.name} is missing; make it: python deploy/config/triton/install.py")
        self._context_tokens = int(self.parameters["context_tokens"])
        self._stop = [text for text in self.parameters.get("stop", "").split("|") if text]
        self.control_tokens = control_tokens(path)
        self._server: Any = xllamacpp.Server(self._settings(path))

    def unload(self) -> None:
        """Free the weights, and end llama.cpp's own threads."""
        self._server = None

    def _settings(self, path: Path) -> Any:
        settings = xllamacpp.CommonParams()
        settings.model.path = str(path)
        settings.n_parallel = self.slots
        settings.n_ctx = self.slots * self._context_tokens
        settings.cpuparams.n_threads = int(self.parameters.get("threads") or usable_cores())
        settings.n_batch = settings.n_ubatch = PROMPT_BATCH
        settings.cache_ram_mib = 0
        settings.verbosity = QUIET
        # xllamacpp always opens an HTTP port on loopback; nobody has the key to it.
        settings.api_keys = [secrets.token_urlsafe()]
        settings.endpoint_slots = settings.endpoint_metrics = False
        settings.cors_origins = "http://127.0.0.1"
        settings.n_threads_http = 1
        return settings

    def generate(self, request: Request, answer: Answer) -> None:
        """Stream one completion."""
        relay = Relay(self, answer)
        self._server.handle_completions(self._body(request), relay.take)
        relay.end()

    def _body(self, request: Request) -> dict[str, Any]:
        prompt = request.prompt.removeprefix(self.parameters.get("bos", ""))
        if not prompt:
            raise BadRequest("the prompt is empty")
        return {
            **sampled(request.sampling),
            "stop": [*request.sampling.stop, *self._stop],
            "prompt": prompt,
            # The probability of a token takes a pass over the vocabulary: only where it is asked for.
            "logprobs": int(request.return_cumulative_logprob),
            "n_predict": min(request.sampling.max_tokens, self._context_tokens - 1),
            "stream": True,
            "timings_per_token": True,
            "return_progress": True,  # a call for each batch of the prompt: a cancelled request ends there too
            # No caller can tell from the time to the first token what another one asked.
            "cache_prompt": False,
        }


def sampled(sampling: Sampling) -> dict[str, Any]:
    """vLLM's parameters in llama.cpp's words, with vLLM's defaults: llama.cpp's own would choose other tokens."""
    numbers = {"temperature": 1.0, "top_p": 1.0, "min_p": 0.0, "repetition_penalty": 1.0, **sampling.numbers}
    numbers["repeat_penalty"] = numbers.pop("repetition_penalty")
    seed = {} if sampling.seed is None else {"seed": sampling.seed}
    return {**numbers, **seed, "top_k": sampling.top_k, "ignore_eos": sampling.ignore_eos}


def usable_cores() -> int:
    """How many threads make sense: llama.cpp's wait for each other, so one too many makes all of them slow."""
    cores = len(os.sched_getaffinity(0))
    try:
        quota, period = CGROUP_QUOTA.read_text().split()
    except (OSError, ValueError):
        quota, period = "max", "1"
    if quota != "max":
        cores = min(cores, math.ceil(int(quota) / int(period)))
    return max(1, min(cores, MAX_THREADS))


class Relay:
    """Passes on what llama.cpp says about one completion."""

    def __init__(self, model: DecoupledModel, answer: Answer) -> None:
        self._model, self._answer = model, answer
        self._sent_tokens = 0
        self._logprobs = Logprobs()
        self._ended = False
        self._error: dict[str, Any] = {}

    def take(self, event: dict[str, Any]) -> bool:
        """One event; true ends the completion."""
        if self._model.ended_early(self._answer):
            self._ended = True
            return True
        if "error" in event:
            self._error = event["error"]  # raised later: an exception does not come through llama.cpp's callback
            return True
        if "prompt_progress" in event:
            self._prompt(event["prompt_progress"])
            return False
        choice = event["choices"][0]
        self._logprobs.add(choice.get("logprobs"))
        if choice["finish_reason"] is not None:
            self._finish(choice, event["usage"])
        elif choice["text"]:
            self._add(choice["text"], event["timings"])
        return False

    def end(self) -> None:
        """The completion is over. Raises BadRequest for what was refused."""
        if self._error:
            raise refusal(self._error)
        if not self._ended:
            raise RuntimeError("llama.cpp ended without a last event")

    def _prompt(self, progress: dict[str, Any]) -> None:
        """The batch that begins now counts already: who leaves before its end has used it all the same."""
        under_way = min(int(progress["processed"]) + PROMPT_BATCH, int(progress["total"]))
        if under_way > int(progress["processed"]):
            self._answer.add("", 0, under_way)

    def _add(self, text: str, timings: dict[str, Any]) -> None:
        so_far = int(timings["predicted_n"])
        self._answer.cumulative_logprob = self._logprobs.total(so_far)
        self._answer.add(text, so_far - self._sent_tokens, int(timings["prompt_n"]))
        self._sent_tokens = so_far

    def _finish(self, choice: dict[str, Any], usage: dict[str, Any]) -> None:
        self._ended = True
        new_tokens = int(usage["completion_tokens"]) - self._sent_tokens
        self._answer.cumulative_logprob = self._logprobs.total(int(usage["completion_tokens"]))
        self._answer.finish(choice["text"], new_tokens, int(usage["prompt_tokens"]), choice["finish_reason"])


class Logprobs:
    """Sums up the natural log-probabilities of tokens, as the model gave them before temperature and other samplers.

    llama.cpp does not tell those of every token: not of the one that ends an answer, nor of those that only begin a
    character. They count with the mean of the others.
    """

    def __init__(self) -> None:
        self._sum, self._told = 0.0, 0

    def add(self, told: dict[str, Any] | None) -> None:
        """What one event says."""
        for token in (told or {}).get("content") or ():
            # llama.cpp writes the lowest float for a token of probability 0, which a forced one may have.
            self._sum += max(float(token["logprob"]), LEAST_LOGPROB)
            self._told += 1

    def total(self, tokens: int) -> float:
        """Of so many tokens; NaN when nothing was told."""
        return self._sum / self._told * tokens if self._told else math.nan


def refusal(error: dict[str, Any]) -> Exception:
    """llama.cpp's refusal as ours; its own text may quote the request."""
    if error.get("type") == "exceed_context_size_error":
        found, limit = error.get("n_prompt_tokens"), error.get("n_ctx")
        return BadRequest(f"the prompt (length {found}) is longer than the maximum model length of {limit}")
    if error.get("code") == 400:
        return BadRequest("the model does not take these sampling parameters")
    return RuntimeError("llama.cpp refused")


TritonPythonModel = LlamaModel
