import pytest

from farthing_classifier.domain.legibility import is_not_text, is_unfamiliar_language, says_nothing


@pytest.mark.parametrize(
    "text",
    [
        "What is the capital of France?",
        "def f(x):\n\treturn x + 1\r\n",
        "你好，世界",
        "See https://example.org/a/very/long/path/that/goes/on-and-on/for/ever.html and tell me what it says, please",
        "🙂",
        "",
    ],
)
def test_text_is_text(text: str) -> None:
    assert not is_not_text(text)


@pytest.mark.parametrize("text", ["\x00\x01\x02", "\ufffd" * 20, "aGVsbG8gd29ybGQh" * 10, "ok \x00\x00", "\ue000" * 9])
def test_what_is_no_text_is_found(text: str) -> None:
    assert is_not_text(text)


@pytest.mark.parametrize(
    "text",
    [
        "Was kostet das Brot und wo kann ich es kaufen?",
        "¿Cuál es la capital de Francia y cuántos habitantes tiene?",
        "Quelle est la capitale de la France ?",
        "Qual é a capital da França e por que?",
        "Wat is de hoofdstad van Frankrijk en hoe groot is het?",
        "你好，今天天气怎么样？",
        "Какая столица Франции?",
        "ما هي عاصمة فرنسا؟",
    ],
)
def test_other_languages_and_scripts_are_found(text: str) -> None:
    assert is_unfamiliar_language(text)


@pytest.mark.parametrize(
    "text",
    [
        "hi",
        "2 + 2",
        "If x + y = 10 and e = 3, what is the value of y?",
        "Translate 'guten Morgen' into English for me, please",
        "Compute the integral of α² + β with respect to α",
        "print(la)",
        "Who wrote Los Miserables and what is the plot?",
        "!!!",
    ],
)
def test_english_formulas_and_code_are_familiar(text: str) -> None:
    assert not is_unfamiliar_language(text)


@pytest.mark.parametrize("text", ["", "?!?!...", "🙂🚀", "___ --- ***"])
def test_signs_alone_say_nothing(text: str) -> None:
    assert says_nothing(text)


@pytest.mark.parametrize("text", ["a", "2+2", "你好", "…and?"])
def test_a_letter_or_a_digit_says_something(text: str) -> None:
    assert not says_nothing(text)
