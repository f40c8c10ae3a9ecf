"""The names of everything the scheduler says on NATS."""

from __future__ import annotations

import re
import secrets
from typing import Final

from farthing_kit import labels

STREAM: Final = "JOBS_INTERACTIVE"
JOBS: Final = "jobs.interactive"
REPLIES: Final = "farthing.replies"
CANCELS: Final = "farthing.cancel"

# What a request id must look like to be one token of a subject.
_REQUEST_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,128}")


def is_request_id(text: str) -> bool:
    """Whether an id can name a job: 1 to 128 letters, digits, "_" and "-"."""
    return _REQUEST_ID.fullmatch(text) is not None


def is_model(text: str) -> bool:
    """Whether a name can name a queue: 1 to 128 characters, by the rule for labels."""
    return labels.fault(text, most=labels.MAX_NAME_CHARS) is None


def model_token(model: str) -> str:
    """A model's name as one token of a subject and as a consumer's name: bytes beside [A-Za-z0-9_-] become "=XX"."""
    return "".join(
        char if char.isascii() and (char.isalnum() or char in "_-") else "".join(f"={b:02X}" for b in char.encode())
        for char in model
    )


def model_of(token: str) -> str:
    """The model whose token this is."""
    raw = re.sub(rb"=([0-9A-F]{2})", lambda match: bytes([int(match[1], 16)]), token.encode())
    return raw.decode(errors="replace")


def job_subject(model: str) -> str:
    """Where jobs for a model wait."""
    return f"{JOBS}.{model_token(model)}"


def new_job_id() -> str:
    """The id of a job: random, and one token of a subject."""
    return f"j_{secrets.token_hex(16)}"


def reply_subject(instance: str, job_id: str) -> str:
    """Where the replica that holds the caller's stream listens."""
    return f"{REPLIES}.{instance}.{job_id}"


def cancel_subject(job_id: str) -> str:
    """Where workers hear that a job shall end."""
    return f"{CANCELS}.{job_id}"


def last_token(subject: str) -> str:
    """What stands behind the last dot: the job id of a reply or a cancellation."""
    return subject.rpartition(".")[2]
