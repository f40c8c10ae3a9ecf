"""The tensors of Triton's vLLM backend: a request as a value, and responses one piece at a time.

Streaming, each response holds the new text in `text_output` and, where they were asked for, the number of new output
tokens, the number of prompt tokens, and `finish_reason`: "None" until the last one, then "stop" or "length". Not
streaming, there is one response with everything.
"""

import json
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import triton_python_backend_utils as pb_utils

DEFAULT_MAX_TOKENS = 16  # as in vLLM
MAX_TOKENS = 8192
UNFINISHED = "None"
KNOWN_PARAMETERS = frozenset({"max_tokens", "temperature", "top_p", "top_k", "min_p", "seed", "stop", "ignore_eos"})


class BadRequest(Exception):
    """A request that cannot be run; the text goes to the caller and quotes nothing of the prompt."""


@dataclass(frozen=True)
class Request:
    """One generation, as the tensors say it."""

    prompt: str
    max_tokens: int = DEFAULT_MAX_TOKENS
    stream: bool = False
    parameters: dict[str, Any] = field(default_factory=dict)
    echo_input: bool = False
    return_finish_reason: bool = False
    return_num_input_tokens: bool = False
    return_num_output_tokens: bool = False


def read(request: Any) -> Request:
    """The request of a pb_utils.InferenceRequest. Raises BadRequest."""
    parameters = _parameters(_text(request, "sampling_parameters", "{}"))
    max_tokens = parameters.pop("max_tokens", DEFAULT_MAX_TOKENS)
    if not isinstance(max_tokens, int) or not 1 <= max_tokens <= MAX_TOKENS:
        raise BadRequest(f"max_tokens must be 1 to {MAX_TOKENS}")
    _check_stop(parameters.get("stop", []))
    prompt = _text(request, "text_input", "")
    if not prompt:
        raise BadRequest("the prompt is empty")
    stream = _flag(request, "stream", False)
    return Request(
        prompt=prompt,
        max_tokens=max_tokens,
        stream=stream,
        parameters=parameters,
        echo_input=not stream and not _flag(request, "exclude_input_in_output", False),
        return_finish_reason=_flag(request, "return_finish_reason", False),
        return_num_input_tokens=_flag(request, "return_num_input_tokens", False),
        return_num_output_tokens=_flag(request, "return_num_output_tokens", False),
    )


def _parameters(text: str) -> dict[str, Any]:
    try:
        found = json.loads(text or "{}")
    except ValueError:
        raise BadRequest("sampling_parameters is not JSON") from None
    if not isinstance(found, dict):
        raise BadRequest("sampling_parameters must be a JSON object")
    if unknown := sorted(set(found) - KNOWN_PARAMETERS):
        known = ", ".join(sorted(KNOWN_PARAMETERS))
        raise BadRequest(f"sampling_parameters has {unknown[0]!r}, which is not one of {known}")
    return found


def _check_stop(stop: Any) -> None:
    if not isinstance(stop, list) or not all(isinstance(text, str) and text for text in stop):
        raise BadRequest("stop must be a list of strings")


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
    """Sends the responses of one request. After `finish` or `fail` nothing more can be sent."""

    def __init__(self, request: Request, sender: Any) -> None:
        self._request = request
        self._sender = sender
        self._kept: list[str] = [request.prompt] if request.echo_input else []
        self._output_tokens = 0

    @property
    def cancelled(self) -> bool:
        """Whether the caller went away."""
        return bool(self._sender.is_cancelled())

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

    def fail(self, message: str) -> None:
        """End with an error."""
        response = pb_utils.InferenceResponse(error=pb_utils.TritonError(message))
        self._sender.send(response, flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def abandon(self) -> None:
        """End without a word: the caller went away."""
        self._sender.send(flags=pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL)

    def _send(self, text: str, new_tokens: int, input_tokens: int, reason: str, *, last: bool = False) -> None:
        tensors = [_strings("text_output", text)]
        if self._request.return_finish_reason:
            tensors.append(_strings("finish_reason", reason))
        if self._request.return_num_input_tokens:
            tensors.append(_number("num_input_tokens", input_tokens))
        if self._request.return_num_output_tokens:
            tensors.append(_number("num_output_tokens", new_tokens))
        flags = pb_utils.TRITONSERVER_RESPONSE_COMPLETE_FINAL if last else 0
        self._sender.send(pb_utils.InferenceResponse(output_tensors=tensors), flags=flags)


def _strings(name: str, value: str) -> Any:
    return pb_utils.Tensor(name, np.array([value.encode()], dtype=np.object_))


def _number(name: str, value: int) -> Any:
    return pb_utils.Tensor(name, np.array([value], dtype=np.uint32))
