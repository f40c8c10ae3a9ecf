"""What a quantized encoder must keep of the original."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

MIN_COSINE: Final = 0.98
MIN_PROMPTS: Final = 200


class GateError(RuntimeError):
    """The quantized encoder is too far from the original, or too few prompts were tried to say so."""


@dataclass(frozen=True, slots=True)
class GateReport:
    """Cosines between the embeddings of both graphs."""

    prompts: int
    min_cosine: float
    mean_cosine: float

    def require(self) -> None:
        """Raise unless the figures are good enough to ship."""
        if self.prompts < MIN_PROMPTS:
            raise GateError(f"the gate needs {MIN_PROMPTS} prompts and has {self.prompts}")
        if not self.min_cosine >= MIN_COSINE:
            raise GateError(
                f"INT8 encoder rejected: its minimum cosine to FP32 over {self.prompts} prompts is "
                f"{self.min_cosine:.4f}, and must be at least {MIN_COSINE}; nothing was written"
            )
