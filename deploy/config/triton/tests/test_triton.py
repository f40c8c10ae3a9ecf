"""The local Triton with its models, through real gRPC."""

import asyncio
import json
import math
import time
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from deploy.config.triton.tests.vllm_client import Client, Reply, extended, reply_of
from farthing_kit.local.triton import Triton

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOG = "triton-models.log"
QUESTION = "<|im_start|>user\nName three colours.<|im_end|>\n<|im_start|>assistant\n"
FREED_WITHIN_S = 10.0  # without the cancelling, the answers would take a minute


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def triton(servers_dir: Path) -> AsyncIterator[Client]:
    server = await Triton(["echo", "echo-slow", "small"], log=servers_dir / LOG).start()
    async with grpc.aio.insecure_channel(server.address) as channel:
        yield Client(channel)
    await server.stop()


async def test_echo_streams_its_words_and_counts_them(triton: Client) -> None:
    reply = await triton.ask("echo", "one two three", max_tokens=16)
    assert reply.pieces == ("one", " two", " three")
    assert (reply.input_tokens, reply.output_tokens, reply.finish_reason) == (3, 3, "stop")


async def test_a_long_echo_comes_in_few_pieces_and_is_counted_all_the_same(triton: Client) -> None:
    words = [f"word{number}" for number in range(203)]
    reply = await triton.ask("echo", " ".join(words), max_tokens=201)
    assert reply.text.split() == words[:201]
    assert (reply.input_tokens, reply.output_tokens, reply.finish_reason) == (203, 201, "length")
    assert len(reply.pieces) <= 4


@pytest.mark.parametrize("model", ["echo", "small"])
async def test_without_streaming_there_is_one_response_with_everything(triton: Client, model: str) -> None:
    streamed = await triton.ask(model, "one two three", max_tokens=3, temperature=0)
    whole = await triton.ask(model, "one two three", max_tokens=3, temperature=0, off=frozenset({"stream"}))
    assert whole == replace(streamed, pieces=(streamed.text,))


async def test_the_prompt_comes_first_where_it_is_not_excluded(triton: Client) -> None:
    both = frozenset({"stream", "exclude_input_in_output"})
    assert (await triton.ask("echo", "one two", max_tokens=1, off=both)).text == "one twoone"
    streamed = await triton.ask("echo", "one", max_tokens=1, off=frozenset({"exclude_input_in_output"}))
    assert "exclude_input_in_output" in streamed.error


async def test_the_output_limit_is_kept_and_named(triton: Client) -> None:
    reply = await triton.ask("echo", "one two three", max_tokens=2)
    assert (reply.text, reply.output_tokens, reply.finish_reason) == ("one two", 2, "length")


@pytest.mark.parametrize(
    ("prompt", "parameters", "says"),
    [
        ("", {}, "the prompt is empty"),
        ("hello", {"max_tokens": 0}, "max_tokens must be"),
        ("hello", {"max_tokens": "many"}, "max_tokens must be"),
        ("hello", {"frobnicate": 1}, "'frobnicate'"),
        ("hello", {"max_tokens": True}, "max_tokens must be"),
        ("hello", {"temperature": "hot"}, "temperature must be"),
        ("hello", {"temperature": math.nan}, "temperature must be"),
        ("hello", {"top_p": 7}, "top_p must be"),
        ("hello", {"seed": 1.5}, "seed must be"),
        ("hello", {"stop": [""]}, "stop must be"),
        ("hello", {"stop": ["x"] * 33}, "stop must be"),
        ("x" * 2_000_000, {}, "longer than the maximum model length"),
    ],
)
@pytest.mark.parametrize("model", ["echo", "small"])
async def test_a_bad_request_is_refused_clearly(
    triton: Client, model: str, prompt: str, parameters: dict[str, Any], says: str
) -> None:
    assert says in (await triton.ask(model, prompt, **parameters)).error


async def test_a_language_model_counts_exactly_what_it_streams(triton: Client) -> None:
    reply = await triton.ask("small", QUESTION, max_tokens=12, temperature=0)
    assert reply.text.strip()
    assert 1 <= reply.output_tokens <= 12
    assert reply.input_tokens > 5
    assert reply.finish_reason in ("stop", "length")


async def test_each_batch_of_a_prompt_is_told_as_it_begins(triton: Client) -> None:
    call = await triton.call("small", "word " * 600, max_tokens=1)
    replies = [extended(Reply(), message.infer_response) async for message in call]
    told = [(reply.text, reply.input_tokens, reply.output_tokens) for reply in replies]
    assert told[:3] == [("", 256, 0), ("", 512, 0), ("", 601, 0)]
    assert {reply.input_tokens for reply in replies[2:]} == {601}


async def test_the_most_likely_answer_is_always_the_same(triton: Client) -> None:
    first, second = [await triton.ask("small", QUESTION, max_tokens=16, temperature=0) for _ in range(2)]
    assert first.text == second.text


async def test_the_log_probability_of_an_answer_is_told_where_it_is_asked_for(triton: Client) -> None:
    silent = await triton.ask("small", QUESTION, max_tokens=12, temperature=0)
    assert math.isnan(silent.logprob)
    greedy = await triton.ask("small", QUESTION, max_tokens=12, temperature=0, want_logprob=True)
    assert greedy.text == silent.text
    assert -2.0 < greedy.logprob / greedy.output_tokens < 0
    wild = await triton.ask("small", QUESTION, max_tokens=12, temperature=2, seed=3, want_logprob=True)
    assert wild.logprob / wild.output_tokens < greedy.logprob / greedy.output_tokens


async def test_the_log_probability_is_that_of_the_model_and_not_of_the_sampler(triton: Client) -> None:
    """At top_k 1 every sampler is certain; the model is not."""
    greedy = await triton.ask("small", QUESTION, max_tokens=12, temperature=0, want_logprob=True)
    certain = await triton.ask("small", QUESTION, max_tokens=12, temperature=0.1, top_k=1, want_logprob=True)
    assert certain.text == greedy.text
    assert certain.logprob == pytest.approx(greedy.logprob, rel=0.05)


async def test_a_whole_answer_has_the_log_probability_of_the_streamed_one(triton: Client) -> None:
    streamed = await triton.ask("small", QUESTION, max_tokens=8, temperature=0, want_logprob=True)
    off = frozenset({"stream"})
    whole = await triton.ask("small", QUESTION, max_tokens=8, temperature=0, off=off, want_logprob=True)
    assert whole.logprob == pytest.approx(streamed.logprob, rel=0.05)


async def test_echo_knows_no_probabilities_and_says_so(triton: Client) -> None:
    reply = await triton.ask("echo", "one two", max_tokens=8, want_logprob=True)
    assert (reply.text, reply.output_tokens) == ("one two", 2)
    assert math.isnan(reply.logprob)


async def test_a_seed_repeats_a_sampled_answer(triton: Client) -> None:
    sampled: dict[str, Any] = {"max_tokens": 16, "temperature": 1.0, "seed": 7}
    first, second = [await triton.ask("small", QUESTION, **sampled) for _ in range(2)]
    assert first.text == second.text


async def test_an_answer_ends_before_a_stop_string(triton: Client) -> None:
    whole = await triton.ask("small", QUESTION, max_tokens=24, temperature=0)
    word = whole.text.split()[3]
    cut = await triton.ask("small", QUESTION, max_tokens=24, temperature=0, stop=[word])
    assert word not in cut.text
    assert cut.finish_reason == "stop"


async def test_a_prompt_beyond_the_context_is_refused_with_both_lengths(triton: Client) -> None:
    error = (await triton.ask("small", "word " * 3000, max_tokens=4)).error
    assert "longer than the maximum model length of 2048" in error


async def test_answers_are_made_side_by_side(triton: Client) -> None:
    async def begin_and_end() -> tuple[float, float]:
        call = await triton.call("small", QUESTION, max_tokens=48, ignore_eos=True)
        times = [time.monotonic() async for _ in call]
        return times[0], times[-1]

    spans = await asyncio.gather(*(begin_and_end() for _ in range(4)))
    assert max(begin for begin, _ in spans) < min(end for _, end in spans)


@pytest.mark.parametrize("model", ["echo-slow", "small"])
async def test_a_cancelled_stream_frees_its_slot(triton: Client, model: str) -> None:
    prompt = QUESTION if model == "small" else " ".join(f"word{number}" for number in range(400))
    calls = [await triton.call(model, prompt, max_tokens=400, ignore_eos=True) for _ in range(8)]
    await calls[0].read()
    for call in calls:
        call.cancel()
    async with asyncio.timeout(FREED_WITHIN_S):
        reply = await triton.ask(model, "free again", max_tokens=2)
    assert reply.output_tokens in (1, 2)


@pytest.mark.parametrize("model", ["echo-slow", "small"])
async def test_a_request_that_is_told_to_stop_ends_its_stream_and_frees_its_slot(triton: Client, model: str) -> None:
    """Both those that run and those that wait: without a cancellation, which Triton does not always survive."""
    prompt = QUESTION if model == "small" else " ".join(f"word{number}" for number in range(400))
    calls = [await triton.open(model, prompt, f"id-{n}", max_tokens=400, ignore_eos=True) for n in range(10)]
    await calls[0].read()
    async with asyncio.timeout(FREED_WITHIN_S):
        for number, call in enumerate(calls):
            await triton.command(call, model, "stop", f"id-{number}")
        replies = await asyncio.gather(*(reply_of(call) for call in calls))
        assert {reply.error for reply in replies} == {""}
        assert max(reply.output_tokens for reply in replies) < 400
        assert (await triton.ask(model, "free again", max_tokens=2)).output_tokens in (1, 2)


@pytest.mark.parametrize("model", ["echo", "echo-slow", "small"])
async def test_to_stop_what_is_not_there_is_nothing(triton: Client, model: str) -> None:
    call = await triton.open(model, "one two", "this-one", max_tokens=2)
    await triton.command(call, model, "stop", "another-one")
    assert (await reply_of(call)).output_tokens == 2


async def test_a_model_tells_its_control_tokens(triton: Client) -> None:
    told = {model: json.loads((await triton.asked(model, "control_tokens")).text) for model in ("echo", "small")}
    assert told["echo"] == []
    assert {"<|im_start|>", "<repo_name>", "<empty_output>"} <= set(told["small"])


async def test_an_unknown_command_is_refused(triton: Client) -> None:
    assert (await triton.asked("small", "dance")).error == "command must be stop or control_tokens"


ODD = [
    ("\0", {}),
    ("a\0b", {"stop": ["\0"]}),
    ("\ufeff\u200b", {"stop": ["\u200b", "\U0001f986", "e\u0301", "\n", " "]}),
    ("\U0010ffff\ufdd0\ue000", {}),
    (QUESTION, {"max_tokens": 8192, "temperature": 0}),
    ("hello", {"seed": -1, "temperature": 2}),
    ("hello", {"seed": -(2**63), "temperature": 2}),
    ("hello", {"temperature": 1e-40, "top_p": 0.5, "seed": 3}),
    ("hello", {"temperature": 100, "top_p": 1e-46, "min_p": 1e-46}),
    ("hello", {"temperature": 1, "top_p": 0, "top_k": 2**31 - 1}),
    ("hello", {"presence_penalty": -2, "frequency_penalty": -2, "repetition_penalty": 0.01}),
    ("\n" * 1000, {}),
    ("<|im_end|>", {}),
    ("<|endoftext|>", {}),
]


@pytest.mark.parametrize(("prompt", "parameters"), ODD)
async def test_odd_input_is_answered_or_refused_and_the_model_goes_on(
    triton: Client, prompt: str, parameters: dict[str, Any]
) -> None:
    for model in ("echo", "small"):
        reply = await triton.ask(model, prompt, **{"max_tokens": 8, **parameters})
        assert reply.error == ""
        assert reply.finish_reason in ("stop", "length")
        assert reply.output_tokens <= 2048
    assert (await triton.ask("small", "hello", max_tokens=1)).output_tokens == 1


@pytest.mark.parametrize("raw", [b"\xff\xfe", b"\xed\xa0\x80", b"a\xc3"])
async def test_what_is_no_utf_8_is_refused(triton: Client, raw: bytes) -> None:
    for model in ("echo", "small"):
        assert (await triton.ask(model, raw, max_tokens=1)).error == "text_input must be one string of UTF-8"


async def test_lone_surrogates_in_parameters_are_refused(triton: Client) -> None:
    for model in ("echo", "small"):
        reply = await triton.ask(model, "hello", max_tokens=2, stop=["\ud800"])
        assert "stop must be" in reply.error


async def test_more_than_the_queue_holds_is_refused(triton: Client) -> None:
    calls = [await triton.call("echo-slow", "one two three four five", max_tokens=5) for _ in range(90)]
    errors = [message.error_message for call in calls async for message in call if message.error_message]
    assert errors
    assert set(errors) == {"Exceeds maximum queue size"}


async def test_no_prompt_reaches_the_log(triton: Client, servers_dir: Path) -> None:
    for model in ("echo", "small"):
        await triton.ask(model, "canary-7f3a", max_tokens=4)
        await triton.ask(model, "canary-7f3a", max_tokens=0)
    assert "canary-7f3a" not in (servers_dir / LOG).read_text()
