"""What the local models are told and asked beside generations, in requests of their own (deploy/config/triton)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from tritonclient.grpc import service_pb2

from farthing_inference.adapters.triton import tensors
from farthing_inference.adapters.triton.dialect import Dialect
from farthing_inference.adapters.triton.vllm import VllmDialect

# The adapters that a pools file may name.
DIALECTS: Final[Mapping[str, Dialect]] = {"vllm": VllmDialect(), "farthing": VllmDialect(has_commands=True)}

# End the request of the same id.
STOP: Final = "stop"
# Tell what the tokenizer reads as markers: a JSON list in text_output.
CONTROL_TOKENS: Final = "control_tokens"
# In a request: end the answer with an empty response if the last one was not marked.
WANT_FINAL: Final = "triton_enable_empty_final_response"


def request(triton_model: str, command: str, identity: str = "") -> Any:
    """A ModelInferRequest that is no generation."""
    made = service_pb2.ModelInferRequest(model_name=triton_model, id=identity)
    made.parameters[WANT_FINAL].bool_param = True
    tensors.add_text(made, "text_input", "")
    tensors.add_text(made, "command", command)
    return made
