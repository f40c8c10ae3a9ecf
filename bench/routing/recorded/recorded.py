"""A Triton model that says again what a real model had answered: for benches on recorded outcomes. A token is a word.

The file that FARTHING_RECORDED_ANSWERS names holds a JSON object a line: `prompt_sha256` of the question, and the
answer of each model under its name. A question that was not recorded is refused.
"""

import hashlib
import json
import os
from pathlib import Path

from farthing_triton.base import DecoupledModel
from farthing_triton.contract import Answer, Request
from farthing_triton.sampling import BadRequest

PIECES = 8


class RecordedModel(DecoupledModel):
    """Answers at once, in a few pieces."""

    def load(self) -> None:
        """Read the answers of this model."""
        with Path(os.environ["FARTHING_RECORDED_ANSWERS"]).open(encoding="utf-8") as lines:
            rows = [json.loads(line) for line in lines]
        self._answers: dict[str, str] = {row["prompt_sha256"]: row[self.name] for row in rows}

    def generate(self, request: Request, answer: Answer) -> None:
        """The recorded answer, whole: how long it was is part of what was recorded."""
        recorded = self._answers.get(hashlib.sha256(request.prompt.strip().encode()).hexdigest())
        if recorded is None:
            raise BadRequest("this question was not recorded")
        words, asked = recorded.split(" "), len(request.prompt.split())
        size = -(-len(words) // PIECES)
        for start in range(0, len(words) - size, size):
            answer.add(" ".join(words[start : start + size]) + " ", size, asked)
        start = (len(words) - 1) // size * size
        answer.finish(" ".join(words[start:]), len(words) - start, asked, "stop")


TritonPythonModel = RecordedModel
