"""What users write is ordinary text to every model: asked of the models' own tokenizers."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from farthing_inference.adapters import pools_file
from farthing_inference.adapters.chat_templates import JinjaTemplates
from farthing_inference.adapters.triton.commands import DIALECTS
from farthing_inference.domain.generation import Message, Role
from farthing_inference.domain.pools import ModelSpec

ROOT = Path(__file__).parents[3]
TEMPLATES = JinjaTemplates(max_prompt_bytes=2**23)
# Of issue and bug reports: markers that a list kept by hand had forgotten.
FORGOTTEN = {
    "small": "<repo_name> <file_sep> <filename> <gh_stars> <issue_start> <jupyter_code> <empty_output>".split(),
    "medium": "<pad> <unk> <mask> <start_of_image> <end_of_image> <unused0> <unused99> [multimodal]".split(),
}
FORGOTTEN["large"] = FORGOTTEN["medium"]


@dataclass
class Tokenizer:
    """One model's tokenizer in a process of its own."""

    name: str
    process: subprocess.Popen[str]

    def __post_init__(self) -> None:
        found = self._line()
        self.special: dict[int, str] = {int(number): text for number, text in found["special"].items()}
        self.told: list[str] = found["told"]

    def ids(self, text: str) -> list[int]:
        assert self.process.stdin is not None
        self.process.stdin.write(json.dumps(text) + "\n")
        self.process.stdin.flush()
        return list(self._line())

    def markers_in(self, text: str) -> Counter[str]:
        """The markers that the model would see."""
        texts = self.special | {self.ids(text)[0]: text for text in FORGOTTEN[self.name]}
        return Counter(texts[number] for number in self.ids(text) if number in texts)

    def _line(self) -> Any:
        assert self.process.stdout is not None
        return json.loads(self.process.stdout.readline())


@pytest.fixture(scope="module", params=["small", "medium", "large"])
def tokenizer(request: pytest.FixtureRequest) -> Iterator[Tokenizer]:
    python = ROOT / "build" / "triton" / ".venv" / "bin" / "python"
    script = ROOT / "deploy" / "config" / "triton" / "tests" / "tokenizer.py"
    weights = ROOT / "build" / "models" / "llm" / f"{request.param}.gguf"
    with subprocess.Popen(
        [str(python), str(script), str(weights)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        yield Tokenizer(request.param, process)
        assert process.stdin is not None
        process.stdin.close()


@pytest.fixture
def spec(tokenizer: Tokenizer) -> ModelSpec:
    """The model as the local pools file has it, with the control tokens that the engine tells."""
    (pool,) = pools_file.load(ROOT / "deploy" / "config" / "pools.toml", {}, DIALECTS)
    found = pool.model(tokenizer.name)
    assert found is not None
    return replace(found, markers=found.markers | tokenizer.told)


def prompt(spec: ModelSpec, text: str, role: Role = Role.USER) -> str:
    return TEMPLATES.render(spec, [Message(Role.SYSTEM, "Be kind."), Message(role, text)])


def test_the_engine_tells_every_token_that_is_no_ordinary_text(tokenizer: Tokenizer) -> None:
    assert len(tokenizer.special) >= 17
    assert set(tokenizer.special.values()) | set(FORGOTTEN[tokenizer.name]) <= set(tokenizer.told)


def test_no_message_holds_a_control_token(tokenizer: Tokenizer, spec: ModelSpec) -> None:
    texts = [*tokenizer.special.values(), *FORGOTTEN[tokenizer.name]]
    forged = "".join(f"{text}{text} a<{text}>\n" for text in texts)
    assert tokenizer.markers_in(forged).keys() >= set(texts)  # as it would be without care
    assert tokenizer.markers_in(prompt(spec, forged)) == tokenizer.markers_in(prompt(spec, "words"))


def test_a_marker_inside_a_marker_is_found_too(tokenizer: Tokenizer, spec: ModelSpec) -> None:
    forged = "".join(text[:3] + text + text[3:] for text in FORGOTTEN[tokenizer.name])
    for role in Role:
        assert tokenizer.markers_in(prompt(spec, forged, role)) == tokenizer.markers_in(prompt(spec, "words", role))


@pytest.mark.parametrize(
    "text", ["<table><tr><td>1 < 2</td></tr></table>", "a\n\n\n\tb   c", "if (a<b && c>d) [x]", "日本語 🦆"]
)
def test_ordinary_text_is_left_as_it_is(spec: ModelSpec, text: str) -> None:
    assert spec.markers.broken_up(text) == text
