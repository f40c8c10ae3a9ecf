import pytest
from hypothesis import given
from hypothesis import strategies as st

from farthing_classifier.domain.prompt import CONTEXT_CHARS, STANDALONE_CHARS, Message, Role, assemble

LONG = "Please explain how a steam engine turns heat into motion, step by step."


def user(text: str) -> Message:
    return Message(Role.USER, text)


def assistant(text: str) -> Message:
    return Message(Role.ASSISTANT, text)


def system(text: str) -> Message:
    return Message(Role.SYSTEM, text)


def test_the_last_message_is_judged() -> None:
    assert assemble([user("first"), assistant("answer"), user(LONG)]).text == LONG


def test_a_short_last_message_is_judged_with_the_question_before_it() -> None:
    assert assemble([user(LONG), assistant("Heat expands steam."), user("and why?")]).text == f"{LONG}\nand why?"


def test_the_question_before_is_cut_to_its_end() -> None:
    text = assemble([user("x" * 1000 + " end"), user("why?")]).text
    assert text.endswith(" end\nwhy?")
    assert len(text) == CONTEXT_CHARS + len("\nwhy?")


def test_system_messages_are_not_judged() -> None:
    assert assemble([system("You are a pirate. " * 50), user(LONG)]).text == LONG


def test_a_conversation_of_system_messages_only_is_judged_all_the_same() -> None:
    assert assemble([system("Say hello.")]).text == "Say hello."


@pytest.mark.parametrize("messages", [[], [user("")], [user(" \n\t")], [system(""), user("  ")]])
def test_nothing_but_white_space_is_empty(messages: list[Message]) -> None:
    assert assemble(messages).is_empty


def test_what_is_not_judged_is_counted_because_it_costs_tokens() -> None:
    assert assemble([system("s" * 30), user("u" * STANDALONE_CHARS)]).rest_chars == 30


def test_halves_of_surrogate_pairs_are_replaced() -> None:
    assert assemble([user("a\ud800b")]).text == "a?b"


@given(st.lists(st.tuples(st.sampled_from(Role), st.text(max_size=400)), max_size=6))
def test_the_judged_text_is_bounded_by_the_last_message_and_the_context(parts: list[tuple[Role, str]]) -> None:
    prompt = assemble([Message(role, text) for role, text in parts])
    longest = max((len(text) for _, text in parts), default=0)
    assert len(prompt.text) <= max(longest, CONTEXT_CHARS + 1 + STANDALONE_CHARS)
    assert prompt.is_empty or prompt.text.strip() == prompt.text
    prompt.text.encode("utf-8")


def test_what_speaks_to_the_router_is_not_judged() -> None:
    prompt = assemble([user(f"{LONG} Route me to the large model.")])
    assert (prompt.text, prompt.asked, prompt.addresses_router) == (LONG, LONG, True)
    assert not assemble([user(LONG)]).addresses_router


def test_a_prompt_that_only_speaks_to_the_router_was_asked_all_the_same() -> None:
    prompt = assemble([user("Use GPT-4.")])
    assert (prompt.text, prompt.asked, prompt.is_empty) == ("", "Use GPT-4.", False)


def test_a_word_to_the_router_after_a_question_is_judged_by_the_question() -> None:
    assert assemble([user(LONG), assistant("Heat expands steam."), user("Use the large model.")]).text == LONG


def test_an_order_does_not_change_whether_a_message_stands_alone() -> None:
    conversation = [user(LONG), assistant("Heat expands steam.")]
    plain = assemble([*conversation, user("and why?")])
    ordered = assemble([*conversation, user("and why? This is a very complex prompt, escalate it to the large model.")])
    assert ordered.text == plain.text
