"""What is reserved for a prompt is never less than what the models' real tokenizers make of it, template and all."""

import base64
import json
import random
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import IO

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from farthing_gateway.domain.estimate import estimate, most_tokens
from farthing_gateway.domain.model import Role
from farthing_gateway.domain.prompt import Message
from farthing_inference.adapters.chat_templates import JinjaTemplates
from farthing_inference.adapters.pools_file import load
from farthing_inference.adapters.triton.commands import DIALECTS
from farthing_inference.domain import generation
from farthing_inference.domain.pools import ModelSpec

ROOT = Path(__file__).parents[1]
PYTHON = ROOT / "build/triton/.venv/bin/python"
WEIGHTS = ROOT / "build/models/llm"
WORDS = ROOT / "services/gateway/src/farthing_gateway/domain/one_token_words.txt"
TEMPLATES = JinjaTemplates(max_prompt_bytes=1024 * 1024)
CHANCE = random.Random(9)


@dataclass(frozen=True)
class Tokenizer:
    """The tokenizer of a served model, and the template that its prompts go through."""

    model: ModelSpec
    texts: IO[str]
    counts: IO[str]

    def count(self, *texts: str) -> list[int]:
        print(json.dumps(texts), file=self.texts, flush=True)
        counts: list[int] = json.loads(self.counts.readline())
        return counts

    def prompt_tokens(self, *messages: Message) -> int:
        """What the engine counts, and will book."""
        turns = [
            generation.Message(generation.Role(Role(message.role).name.lower()), message.content)
            for message in messages
        ]
        return self.count(TEMPLATES.render(self.model, turns))[0]


@pytest.fixture(scope="module", params=["small", "medium"])
def tokenizer(request: pytest.FixtureRequest) -> Iterator[Tokenizer]:
    pools = load(ROOT / "deploy/config/pools.toml", {}, DIALECTS)
    model = next(model for pool in pools for model in pool.models if model.name == request.param)
    script = [str(PYTHON), str(ROOT / "tests/support/llama_tokenizer.py"), str(WEIGHTS / f"{request.param}.gguf")]
    with subprocess.Popen(script, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        markers = model.markers | json.loads(process.stdout.readline())
        yield Tokenizer(replace(model, markers=markers), process.stdin, process.stdout)
        process.stdin.close()
        process.wait()


def bound(*messages: Message) -> int:
    return estimate(messages, 1).fresh_input


def user(text: str) -> Message:
    return Message(Role.USER, text)


def roman(number: int) -> str:
    signs = [(100, "C"), (90, "XC"), (50, "L"), (40, "XL"), (10, "X"), (9, "IX"), (5, "V"), (4, "IV"), (1, "I")]
    made = ""
    for value, sign in signs:
        made += sign * (number // value)
        number %= value
    return made


ODD = {
    "nothing": "",
    "DNA": "".join(CHANCE.choice("ACGT") for _ in range(2_000)),
    "DNA in small letters": "".join(CHANCE.choice("acgt") for _ in range(2_000)),
    "base64": base64.b64encode(CHANCE.randbytes(1_500)).decode(),
    "hexadecimal": CHANCE.randbytes(1_000).hex(),
    "spelled out": " ".join("the quick brown fox jumps over the lazy dog" * 20),
    "letters and commas": ",".join("supercalifragilistic" * 20),
    "Roman numerals": " ".join(roman(number) for number in range(1, 300)),
    "Welsh": "Mae hen wlad fy nhadau yn annwyl i mi, gwlad beirdd a chantorion, enwogion o fri; ein gwrol ryfelwyr. "
    * 9,
    "Finnish without marks": "Yota paivaa aanestajat kayttaytyvat epajarjestelmallisesti taalla jarvella huomenta. "
    * 9,
    "Vietnamese without marks": "Xin chao, toi muon hoi ban ve thoi tiet hom nay o thanh pho Ho Chi Minh nhu the nao. "
    * 9,
    "Turkish": "Muvaffakiyetsizleştiricileştiriveremeyebileceklerimizdenmişsinizcesine güneşli çığır şoför. " * 9,
    "emoji": "🙂🚀👩\u200d💻🇮🇪👍🏽🏴\U000e0067\U000e0062\U000e007f" * 40,
    "Chinese": "你好，世界，今天天气怎么样？龘靐齉爩鱻麤" * 30,
    "Japanese": "東京は日本の首都です。ｶﾀｶﾅとひらがな" * 30,
    "Korean": "안녕하세요 세계 뷁쀍" * 30,
    "many scripts": "ما هي עברית हिन्दी ไทย বাংলা தமிழ் ქართული አማርኛ ᚠᚢᚦ ⴰⵣⵓⵍ 𐎠𐎡 Ωμέγα Жизнь ភាសា ລາວ မြန်မာ " * 9,
    "private use and unassigned": "\ue000\uf8ff\U000f0000\u0378\u2fe0" * 60,
    "random bytes as text": CHANCE.randbytes(1_500).decode("latin-1"),
    "random characters": "".join(chr(CHANCE.randrange(0x20, 0xD800)) for _ in range(800)),
    "marks": "e" + "\u0301" * 500,
    "control characters": "\x00\x01\x02\x7f" * 100,
    "white space": " \t\n\r\u00a0\u3000" * 60 + " " * 500 + "\n" * 200,
    "capitals without spaces": "THISISALLONEWORD" * 40,
    "case that alternates": "tHe QuIcK bRoWn " * 40,
    "signs and words": "".join(f"{sign}the{sign}world" for sign in "!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~") * 4,
    "control tokens": "<s><pad><|im_start|>user<|im_end|><start_of_turn>[INST]<unk></s><mask><unused1>[multimodal]"
    * 20,
    "what looks like control tokens": "<|" * 50 + "<a><b>[c][/d]" * 50 + "<" * 100 + "]" * 100,
    "markup": "<table><tr><td>1</td></tr></table>[@BOS@]<h1>The world</h1>" * 20,
}


@pytest.mark.parametrize("kind", ODD)
def test_no_string_however_odd_takes_more_tokens_than_were_reserved(tokenizer: Tokenizer, kind: str) -> None:
    assert tokenizer.prompt_tokens(user(ODD[kind])) <= bound(user(ODD[kind]))


LISTED = WORDS.read_text().split()
PIECES = st.one_of(
    st.sampled_from(LISTED),
    st.sampled_from(LISTED).map(lambda word: f" {word}"),
    st.sampled_from(
        [*"!\"#$%&'()*+,-./:;<=>?@[\\]^_`{|}~", " ", "  ", "\n", "\t", "’", "'s", "'re", "\u0301", "é", "²"]
    ),
    st.sampled_from(["<s>", "<pad>", "<|im_end|>", "<h1>", "[INST]", "🙂", "東京", "हि", "\u200d", "\u00ad"]),
    st.text(max_size=4),
    st.integers(0, 99_999).map(str),
)


@settings(deadline=None, max_examples=300)
@given(st.lists(PIECES, max_size=8).map("".join))
def test_no_mixture_of_words_signs_and_scripts_takes_more_either(tokenizer: Tokenizer, text: str) -> None:
    assert tokenizer.count(text)[0] <= most_tokens(text) + 1  # the first token is the template's


@settings(deadline=None, max_examples=50)
@given(
    st.lists(
        st.tuples(st.sampled_from([Role.SYSTEM, Role.USER, Role.ASSISTANT]), st.sampled_from(["", "a", "é"])),
        min_size=1,
        max_size=30,
    )
)
def test_what_a_template_adds_is_reserved_for_any_number_of_messages(
    tokenizer: Tokenizer, turns: list[tuple[Role, str]]
) -> None:
    messages = [Message(role, content) for role, content in turns]
    assert tokenizer.prompt_tokens(*messages) <= bound(*messages)


def test_every_listed_word_is_one_token(tokenizer: Tokenizer) -> None:
    alone, spaced = (part.split() for part in WORDS.read_text().split("\n\n"))
    first = tokenizer.count("")[0]
    (after_spaces,) = tokenizer.count("." + "".join(f" {word}" for word in (*alone, *spaced)))
    (after_line_ends,) = tokenizer.count("".join(f"\n{word}" for word in alone))
    assert after_spaces == first + 1 + len(alone) + len(spaced)
    assert after_line_ends == first + 2 * len(alone)


PROSE = """The first lighthouse on this part of the coast was built of wood in 1698 and was destroyed by a storm five
years later. Its successor burned down. The third tower, made of interlocking blocks of granite, was copied
all over the world, because its engineer had discovered how to make a cement that hardens under water. When
the rock beneath it began to shake in the waves, a fourth was put up beside it, and the people of Plymouth
paid to have the old one carried, stone by stone, to the hill above their town, where it still stands. Could
you explain why the shape of an oak tree inspired him, and list three other buildings that were influenced
by his work?"""


def test_plain_english_reserves_at_most_twice_what_it_takes(tokenizer: Tokenizer) -> None:
    assert most_tokens(PROSE) <= 2 * tokenizer.count(PROSE)[0]
