"""What is found in an answer: code, JSON, wording, its end, and agreement with a reference."""

import math

import pytest

from farthing_classifier.domain.analysis import Task
from farthing_classifier.domain.judging import agreement, asked, final_answer, word_problems
from farthing_classifier.domain.judging.examination import EVIDENCE, Candidate, Finding, Finish, examine
from services.classifier.tests.strange_texts import STRANGE


def findings(answer: str, prompt: str = "Tell me about it.", **fields: object) -> set[Finding]:
    return set(examine(Candidate(prompt, answer, **fields)).findings)  # type: ignore[arg-type]


def python(source: str) -> str:
    return f"Here it is:\n```python\n{source}\n```\n"


# --- code


def test_code_that_parses_is_said_to() -> None:
    assert findings(python("def double(x: int) -> int:\n    return 2 * x")) == {Finding.CODE_PARSES}


@pytest.mark.parametrize("source", ["def f(:\n  return", "for x in y\n    pass", "x = (1 +", "return 1 +\n"])
def test_code_that_does_not_parse_is_said_not_to(source: str) -> None:
    assert Finding.CODE_DOES_NOT_PARSE in findings(python(source))


def test_a_part_that_is_indented_as_it_was_and_shell_lines_parse() -> None:
    assert Finding.CODE_PARSES in findings(python("    x = 1\n    return_value = x"))
    assert Finding.CODE_PARSES in findings(python("!pip install numpy\nimport numpy"))


def test_brackets_decide_for_other_languages_and_quotes_do_not_count() -> None:
    assert Finding.CODE_DOES_NOT_PARSE in findings("```js\nfunction f() { return [1, 2; }\n```")
    assert not findings("```js\nconst a = '}'; // )\nfunction f() { return [1, 2]; }\n```")


def test_equations_in_code_are_not_arithmetic() -> None:
    assert findings(python("x = 3 + 4 == 8\ny = 1 + 1 == 3")) == {Finding.CODE_PARSES}


def test_code_is_never_run(capsys: pytest.CaptureFixture[str]) -> None:
    findings(python("print('run')\nraise SystemExit(3)"))
    findings(python("'\\d is no escape'"))
    captured = capsys.readouterr()
    assert captured.out == ""
    assert captured.err == ""


# --- JSON

ASKS_JSON = "Return the name and the age as JSON."


@pytest.mark.parametrize(
    "answer",
    ['{"name": "Ada", "age": 36}', '```json\n{"name": "Ada"}\n```', 'Here you are: {"name": "Ada"} - done.', "[1, 2]"],
)
def test_json_that_was_asked_for_is_valid(answer: str) -> None:
    assert Finding.VALID_JSON in findings(answer, ASKS_JSON)


@pytest.mark.parametrize(
    "answer", ['{"name": "Ada",}', "{'name': 'Ada'}", "Ada is 36.", '{"name": NaN}', '{"a": 1', "```json\n{\n```"]
)
def test_what_is_no_json_is_said_to_be_none(answer: str) -> None:
    assert Finding.INVALID_JSON in findings(answer, ASKS_JSON)


def test_json_alone_means_alone() -> None:
    answer = 'Sure! {"name": "Ada"}'
    assert Finding.INVALID_JSON in findings(answer, "Reply with JSON only.")
    assert Finding.INVALID_JSON in findings(answer, "Who?", frame="You answer only in valid JSON.")


@pytest.mark.parametrize("prompt", ["What is JSON?", "Write a function that parses JSON.", "Why is my JSON invalid?"])
def test_talk_about_json_asks_for_none(prompt: str) -> None:
    assert not findings("It is a format for data.", prompt) & {Finding.INVALID_JSON, Finding.VALID_JSON}


# --- wording


@pytest.mark.parametrize(
    "answer",
    [
        "I'm sorry, but I can't help with that.",
        "I’m sorry, but I can’t assist with that request.",
        "As an AI language model, I cannot browse the internet.",
        "I am unable to provide that information.",
        "I must decline.",
        "Lo siento, pero no puedo ayudar con eso.",
    ],
)
def test_refusals_are_found(answer: str) -> None:
    assert Finding.REFUSAL in findings(answer)


@pytest.mark.parametrize(
    "answer",
    [
        "Dear Sam, I am sorry, but I cannot attend on Friday.",
        "You can't divide by zero.",
        "Paris. " * 3 + "x" * 400 + " I can't help with that.",
        "The AI in the novel cannot lie.",
    ],
)
def test_what_declines_something_else_is_no_refusal(answer: str) -> None:
    assert Finding.REFUSAL not in findings(answer)


def test_doubts_are_found() -> None:
    assert Finding.HEDGING in findings("It was 1912, but I'm not sure.")
    assert Finding.HEDGING in findings("There is not enough information to tell.")
    assert Finding.HEDGING not in findings("It was 1912, surely.")


@pytest.mark.parametrize("unit", ["and then the same. ", "no ", "你好世界", "ha"])
def test_loops_are_found(unit: str) -> None:
    assert Finding.REPETITIVE in findings("It began well. " + unit * 200)


def test_prose_and_lists_and_wanted_repetition_are_no_loops() -> None:
    prose = " ".join(f"Sentence {n} tells of {n * n} birds near the {n}th river bend." for n in range(40))
    assert Finding.REPETITIVE not in findings(prose)
    assert Finding.REPETITIVE not in findings(", ".join(map(str, range(300))))
    assert Finding.REPETITIVE not in findings("no " * 200, "Repeat no 200 times.")


def test_length_is_held_against_what_was_asked() -> None:
    assert Finding.TOO_SHORT in findings("Dogs are nice.", "Write a 300-word essay on dogs.")
    assert Finding.TOO_SHORT in findings("It depends.", "Explain how a fridge works.")
    assert Finding.TOO_SHORT not in findings("It depends.", "Explain briefly, in one word.")
    assert Finding.TOO_SHORT not in findings("Paris.", "What is the capital of France?")


@pytest.mark.parametrize("answer", ["", "  \n\t "])
def test_an_empty_answer_is_only_empty(answer: str) -> None:
    assert findings(answer) == {Finding.EMPTY}


@pytest.mark.parametrize("finish", [Finish.LENGTH, Finish.CANCELLED, Finish.BUDGET])
def test_an_answer_that_was_stopped_is_cut_off(finish: Finish) -> None:
    assert Finding.CUT_OFF in findings("It was", finish=finish)
    assert Finding.CUT_OFF not in findings("It was.", finish=Finish.STOP)


def test_an_open_block_is_cut_off() -> None:
    assert Finding.CUT_OFF in findings("```python\nx = 1\n")


def test_improbable_tokens_are_a_finding_from_the_limit_on() -> None:
    assert Finding.IMPROBABLE_TOKENS in findings("Yes.", mean_token_logprob=-2.0)
    assert not findings("Yes.", mean_token_logprob=-0.4)
    assert not findings("Yes.", mean_token_logprob=math.nan)


# --- the final answer


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("#### 1,234", 1234.0),
        ("#### $57.00", 57.0),
        ("So he has 3 + 4 = 7 apples.", 7.0),
        ("The answer is 12, since 3 * 4 = 12 and 5 are left.", 12.0),
        (r"\boxed{42}", 42.0),
        ("The final answer is -3.5.", -3.5),
        ("He needs 50% more", 50.0),
        ("#### 1/2", 0.5),
        ("Tom has seven apples.", 7.0),
        ("There are twenty-one of them", 21.0),
        ("None of them", 0.0),
        ("It is \u22125", -5.0),
        ("between 20-25", 25.0),
        ("Take room B-25", 25.0),
        ("x=-5", -5.0),
        ("The answer is 25 (see step 3)", 25.0),
        ("2.5e3", 2500.0),
        ("1.5E-3 m", 0.0015),
        ("no number", None),
        ("1e99", None),
        ("#### none\nbut 7", 7.0),
    ],
)
def test_the_final_number_is_found(text: str, number: float | None) -> None:
    assert final_answer.find(text).number == number


@pytest.mark.parametrize(
    ("text", "option"),
    [
        ("B", "B"),
        ("(c)", "C"),
        ("The answer is (B).", "B"),
        ("Answer: D", "D"),
        ("**A.** The heart", "A"),
        ("A heart has four chambers.", None),
        ("I do not know", None),
    ],
)
def test_the_option_is_found(text: str, option: str | None) -> None:
    assert final_answer.find(text).option == option


OPTIONS = "Which is a mammal?\nA) trout\nB) whale\nC) crow"


def test_no_final_answer_where_one_was_asked_for_is_a_finding() -> None:
    assert Finding.NO_FINAL_ANSWER in findings("Mammals feed their young with milk.", OPTIONS)
    assert Finding.NO_FINAL_ANSWER in findings("He has many.", "Tom has 3 apples and buys 4. How many has he?")
    assert Finding.NO_FINAL_ANSWER not in findings("The answer is B.", OPTIONS)


# --- agreement

COUNT = "Tom has 3 apples and buys 4. How many has he?"


@pytest.mark.parametrize(
    ("prompt", "answer", "reference"),
    [
        (COUNT, "3 + 4 = 7. #### 7", "He has seven, that is $7.00."),
        (COUNT, "#### 1,000", "He has 1000 apples."),
        (OPTIONS, "B", "The answer is (B), the whale."),
        ("Capital of France?", "Paris", "The capital of France is Paris."),
        ("Capital of France?", "paris!", "Paris"),
        ("Is it so?", "Yes, it is.", "Yes, that is the case because of the law."),
        ("日本の首都は？", "東京です", "東京"),
        ("Who?", "Jose\u0301 Marti\u0301", "José Martí"),
        ("Do you know?", "I don’t know him", "I don't know him"),
        ("Help me with a crime.", "I can't help with that.", "I'm sorry, but I cannot assist with that."),
    ],
)
def test_answers_that_say_the_same_agree(prompt: str, answer: str, reference: str) -> None:
    assert Finding.AGREES in findings(answer, prompt, reference=reference)


@pytest.mark.parametrize(
    ("prompt", "answer", "reference"),
    [
        (COUNT, "#### 8", "#### 7"),
        (COUNT, "#### 70", "#### 7"),
        (OPTIONS, "The answer is A.", "The answer is B."),
        ("日本の首都は？", "大阪", "東京です"),
        ("Capital of France?", "Lyon", "The capital of France is Paris."),
        ("Is it so?", "Yes", "No"),
        ("Is it safe?", "It is safe.", "It is not safe."),
        ("Anything", "I can't help with that.", "Paris is the capital of France."),
        ("Anything", "", "Paris"),
    ],
)
def test_answers_that_differ_disagree(prompt: str, answer: str, reference: str) -> None:
    assert Finding.DISAGREES in findings(answer, prompt, reference=reference)


def test_long_texts_agree_by_their_words_and_a_little_doubt_is_neither() -> None:
    wanted = asked.read("Explain rain.", "", Task.UNSPECIFIED)
    text = "Warm air rises and cools until its water forms clouds and the drops grow heavy enough to fall as rain"
    assert agreement.compare(text, text + " on the ground below", wanted).agrees
    other = "Bread is baked from flour and yeast in an oven that somebody heats for about forty minutes at least"
    assert agreement.compare(text, other, wanted).disagrees


# --- problems with numbers


def number(name: str, problem: str, answer: str) -> float:
    examined = examine(Candidate(problem, answer, task=Task.MATHS))
    assert examined.numbers is not None
    return dict(zip(word_problems.NAMES, examined.numbers, strict=True))[name]


STORY = "Ann buys 3 boxes of 12 eggs at $4 a box, and eats 5 eggs a week with her sister Eve. How many eggs are left?"


def test_numbers_that_the_answer_leaves_out_are_counted() -> None:
    assert number("any_unused", STORY, "3 * 12 = 36. 36 - 5 = 31. #### 31") == 1.0
    assert number("unused", STORY, "4 * 3 * 12 = 144. 144 - 5 = 139. #### 139") == 0.0


def test_operands_from_nowhere_are_counted() -> None:
    assert number("any_unexplained", STORY, "3 * 12 = 36. 36 - 19 = 17. #### 17") == 1.0
    assert number("any_unexplained", STORY, "3 * 12 = 36. 36 - 5 = 31. #### 31") == 0.0


def test_a_result_that_is_not_the_last_one_computed_is_seen() -> None:
    assert number("result_is_last", STORY, "3 * 12 = 36. 36 - 5 = 31. #### 31") > 0.0
    assert number("result_is_last", STORY, "3 * 12 = 36. 36 - 5 = 31. #### 36") == 0.0


def test_results_that_lead_nowhere_are_counted() -> None:
    assert number("any_dangling", STORY, "3 * 4 = 12. 36 - 5 = 31. #### 31") == 1.0


def test_a_fraction_is_odd_only_where_things_are_counted() -> None:
    assert number("any_result_is_fraction", STORY, "36 / 5 = 7.2. #### 7.2") == 1.0
    assert number("any_result_is_fraction", "What is 7 / 2?", "7 / 2 = 3.5. #### 3.5") == 0.0
    assert number("any_result_is_fraction", STORY + " What is the average?", "36 / 5 = 7.2. #### 7.2") == 0.0


def test_a_percentage_is_used_as_figure_share_or_rest() -> None:
    problem = (
        "A coat of $80 is sold at a discount of 20% by a shop in the town. How much does one pay for it in the end?"
    )
    for answer in ("80 * 20 / 100 = 16. 80 - 16 = 64", "0.2 * 80 = 16. 80 - 16 = 64", "80 * 0.8 = 64", "80 * 80% = 64"):
        assert number("any_unused", problem, answer) == 0.0


def test_numbers_are_weighed_only_where_numbers_are_asked_for() -> None:
    assert examine(Candidate("Write a poem of 3 lines about 5 cats.", "3 cats + 2 cats = 5 cats")).numbers is None


# --- any text

HOSTILE = {
    "digits": "9" * 262_144,
    "numbers": "9 " * 131_072,
    "equals": "=" * 262_144,
    "sums": "1+1=2 " * 40_000,
    "pluses": "1+" * 131_072,
    "open brackets": "(1" * 131_072,
    "closed brackets": "1)" * 131_072,
    "annotations": "<<1+1=2>>" * 29_000,
    "open annotations": "<<" * 131_072,
    "fences": "```\n" * 65_536,
    "deep Python": "```python\na" + ".b" * 15_000 + "\n```",
    "many operators": "```python\n" + "not " * 8_000 + "a\n```",
    "deep lists": "```python\n" + "[" * 30_000 + "\n```",
    "deep JSON": '{"a":' * 50_000,
    "long digits in JSON": "1" * 250_000,
    "open quotes": "```js\n" + '"\\' * 16_000 + "\n```",
    "open comments": "```c\n/*" + "*" * 30_000 + "\n```",
    "LaTeX": "\\frac{1}{" * 29_000,
    "boxes": "\\boxed{" * 37_000,
    "marks": "#### " * 52_000,
    "units": "1 a b c d e f + " * 16_000,
    "refusals": "as an " * 43_000,
}


@pytest.mark.parametrize("text", [*STRANGE.values(), *HOSTILE.values()], ids=[*STRANGE, *HOSTILE])
def test_any_text_is_examined(text: str) -> None:
    text = text[:262_144]
    for prompt in ("Return json only. How many: 3 or 5? (A) x (B) y", text):
        examined = examine(Candidate(prompt, text, task=Task.MATHS, reference=text[:9_999]))
        assert len(examined.evidence) == len(EVIDENCE)
        assert all(map(math.isfinite, (*examined.evidence, *(examined.numbers or ()))))
