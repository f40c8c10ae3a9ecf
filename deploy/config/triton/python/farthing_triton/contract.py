"""The tensors of Triton's vLLM backend: a request as a value, and responses one piece at a time.

Streaming, each response holds the new text in `text_output` and, where they were asked for, the number of new output
tokens, the number of prompt tokens, the log-probability of the answer so far, and `finish_reason`: "None" until the
last one, then "stop" or "length". Not streaming, there is one response with everything.

What vLLM's backend has not: an input `command`, for what is not a generation.
"""

import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

from farthing_triton.sampling import BadRequest, Sampling, parse

UNFINISHED = "None"
# Commands: end the request of the same id; tell the texts that the tokenizer reads as markers, as a JSON list.
STOP = "stop"
CONTROL_TOKENS = "control_tokens"
# No context here holds as much; counting the tokens of more takes seconds.
MAX_PROMPT_BYTES = 2**20


@dataclass(frozen=True)
class Request:
    """One generation, as the tensors say it."""

    prompt: str
    sampling: Sampling = Sampling()
    stream: bool = False
    echo_input: bool = False
    return_finish_reason: bool = False
    return_cumulative_logprob: bool = False
    return_num_input_tokens: bool = False
    return_num_output_tokens: bool = False


def command(request: Any) -> str:
    """The command of a pb_utils.InferenceRequest; empty for a generation. Raises BadRequest."""
    return _text(request, "command", "")


def read(request: Any) -> Request:
    """The request of a pb_utils.InferenceRequest. Raises BadRequest."""
    stream = _flag(request, "stream", False)
    echo_input = not _flag(request, "exclude_input_in_output", stream)
    if echo_input and stream:
        raise BadRequest("when streaming, exclude_input_in_output must be true")
    return Request(
        prompt=_prompt(request),
        sampling=parse(_text(request, "sampling_parameters", "{}")),
        stream=stream,
        echo_input=echo_input,
        return_finish_reason=_flag(request, "return_finish_reason", False),
        return_cumulative_logprob=_flag(request, "return_cumulative_logprob", False),
        return_num_input_tokens=_flag(request, "return_num_input_tokens", False),
        return_num_output_tokens=_flag(request, "return_num_output_tokens", False),
    )


def _prompt(request: Any) -> str:
    prompt = _text(request, "text_input", "")
    if not prompt:
        raise BadRequest("the prompt is empty")
    if len(prompt) > MAX_PROMPT_BYTES:
        raise BadRequest("the prompt is longer than the maximum model length (not counted: it has over a mebibyte)")
    return prompt


def _text(request: Any, name: str, default: str) -> str:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    if tensor is None:
        return default
    try:
        return bytes(tensor.as_numpy().reshape(-1)[0]).decode()
    except (UnicodeDecodeError, IndexError):
        raise BadRequest(f"{name} must be one string of UTF-8") from None


def _flag(request: Any, name: str, default: bool) -> bool:
    tensor = pb_utils.get_input_tensor_by_name(request, name)
    return default if tensor is None else bool(tensor.as_numpy().reshape(-1)[0])


class Answer:
    """Sends the responses of one request. `finish`, `reject`, `refuse`, `fail` and `abandon` end it. The model sets
    `cumulative_logprob` where it knows it; NaN, as from vLLM's backend, where it does not."""

    def __init__(self, request: Request, sender: Any) -> None:
        self._request = request
        self._sender = sender
        self._kept: list[str] = [request.prompt] if request.echo_input else []
        self._output_tokens = 0
        self.stopped = False
        self.cumulative_logprob = math.nan

    def to(self, request: Request) -> "Answer":
        """The answer to what has been read."""
        return Answer(request, self._sender)

    @property
    def cancelled(self) -> bool:
        """Whether the caller went away: said so, or cancelled the stream."""
        return self.stopped or bool(self._sender.is_cancelled())

    def add(self, text: str, new_tokens: int, input_tokens: int) -> None:
        """The next piece: sent at once when streaming, else kept."""
        if self._request.stream:
            self._send(text, new_tokens, input_tokens, UNFINISHED)
        else:
            self._kept.append(text)
            self._output_tokens += new_tokens

    def finish(self, text: str, new_tokens: int, input_tokens: int, reason: str) -> None:
        """The last piece, with the reason why it is the last: "stop" or "length"."""
        whole = "".join([*self._kept, text])
        self._send(whole, self._output_tokens + new_tokens, input_tokens, reason, last=True)

    def tell(self, text: str) -> None:
        """The whole answer to a command."""
        response = pb_utils.InferenceResponse(output_tensors=[_strings("text_output", text)])
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def reject(self, message: str) -> None:
        """End with an error of the caller."""
        self._end(message, pb_utils.TritonError.INVALID_ARG)

    def refuse(self, why: str) -> None:
        """End with the news that this server cannot take the request now; another can."""
        self._end(why, pb_utils.TritonError.UNAVAILABLE)

    def fail(self, message: str) -> None:
        """End with an error of ours."""
        self._end(message, pb_utils.TritonError.INTERNAL)

    def abandon(self) -> None:
        """End without a word: the caller went away."""
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _end(self, message: str, code: Any) -> None:
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(message, code))
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _send(self, text: str, new_tokens: int, input_tokens: int, reason: str, *, last: bool = False) -> None:
        tensors = [_strings("text_output", text)]
        if self._request.return_finish_reason:
            tensors.append(_strings("finish_reason", reason))
        if self._request.return_cumulative_logprob:
            tensors.append(_number("cumulative_logprob", self.cumulative_logprob, np.float32))
        if self._request.return_num_input_tokens:
            tensors.append(_number("num_input_tokens", input_tokens))
        if self._request.return_num_output_tokens:
            tensors.append(_number("num_output_tokens", new_tokens))
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
        self._sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=flags)


def _strings(name: str, value: str) -> Any:
    return pb_utils.Tensor(name, np.array([value.encode()], dtype=np.object_))


def _number(name: str, value: float, dtype: Any = np.uint32) -> Any:
    return pb_utils.Tensor(name, np.array([value], dtype=dtype))
