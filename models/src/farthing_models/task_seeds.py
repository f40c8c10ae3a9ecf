"""Prompts written for this project, for the kinds of work that no outcome set contains.

They are templates filled with topics and texts: they teach what a request for a summary looks like, not how people
phrase one. The model card says so, and the held-out accuracy leaves whole templates out.
"""

from __future__ import annotations

import random
import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

PER_TEMPLATE: Final = 14

TOPICS: Final = (
    "the history of railways", "a lost dog", "solar panels", "our quarterly sales", "the French revolution", "bread",
    "autumn", "a job interview", "remote work", "electric cars", "the moon", "an old lighthouse", "coffee", "chess",
    "friendship", "climate change", "a birthday party", "the human heart", "a refund", "moving to a new city", "rivers",
    "learning the piano", "a broken laptop", "vaccines", "black holes", "gardening", "a delayed flight", "democracy",
    "a robot who paints", "the stock market", "sleep", "volcanoes", "a wedding speech", "tea", "the Roman empire",
)  # fmt: skip

TEXTS: Final = (
    "The meeting on Tuesday was moved to Thursday at 3 pm because two of the engineers are travelling. Anna will send "
    "the new agenda, and the budget question stays open until finance has answered.",
    "Order 48213 was placed on 3 March by Maria Lopez, Calle Mayor 14, Madrid. It contains two lamps and a desk; the desk "
    "arrived with a broken leg, and the customer asks for a replacement before the end of the month.",
    "The phone is fast and the screen is lovely, but the battery hardly lasts until noon. I called support twice and "
    "nobody called back. I would not buy it again.",
    "Researchers found that people who walk for half an hour a day sleep better. The study followed 1,200 adults over two "
    "years and compared them with a group that did not change its habits.",
    "Dear team, the server in Dublin was down from 02:10 to 03:45 last night. A disk failed and the spare did not take "
    "over. No data was lost. We will replace the controller on Friday.",
    "The old mill stands at the edge of the village. For two hundred years it ground the farmers' grain; since 1961 it has "
    "been a museum, and every summer the children learn there how flour is made.",
    "Our company grew by 12 percent last year, mostly in Asia. Costs rose faster than sales, so that profit fell slightly. "
    "The board expects a better margin once the new plant in Porto is running.",
    "The patient, a 54-year-old woman, reports headaches since Monday. She takes lisinopril 10 mg daily and is allergic to "
    "penicillin. Blood pressure was 150 over 95 at both visits.",
    "What a wonderful hotel! The staff remembered our names, breakfast was excellent, and the room looked over the sea. "
    "Only the lift was slow. We will come back next year.",
    "The contract between Delta Tools Ltd and Mr. Okafor begins on 1 June 2024 and ends after twelve months. Either side "
    "may end it with thirty days' notice. The monthly fee is 2,400 euros.",
)  # fmt: skip

LANGUAGES: Final = ("French", "German", "Spanish", "Italian", "Portuguese", "Japanese", "English", "Dutch", "Polish")

TEMPLATES: Final[dict[str, tuple[str, ...]]] = {
    "chat": (
        "hi", "hello, how are you?", "hey there, what can you do?", "good morning! how was your day?", "thanks a lot!",
        "ok, that sounds good", "what do you think about {topic}?", "tell me something interesting about {topic}",
        "I had a bad day today and can't stop thinking about {topic}", "can we talk about {topic} for a bit?",
        "I'm bored, any ideas?", "do you have any advice about {topic}?", "let's chat about {topic}",
        "what would you do if you were me? It's about {topic}", "I feel nervous because of {topic}. What should I do?",
        "who are you?", "can you help me?", "lol that's funny. anyway, what's your favourite thing about {topic}?",
        "please recommend me a good book on {topic}", "how can I get better at {topic}?",
        "yes please",
        "no thanks",
        "sorry, I meant something else",
        "tell me a joke",
        "you are great",
        "I don't know what to cook tonight",
        "what's up?",
        "good night!",
        "why do you think so?",
        "my friend and I argued about {topic}, any thoughts?",
        "I just came back from holiday!",
        "and then?",
    ),
    "extraction": (
        "Extract all names and dates from this text:\n{text}", "List every number mentioned in the text below.\n\n{text}",
        "From the following email pull out the sender's request and the deadline as JSON.\n{text}",
        "{text}\n\nReturn the people, places and amounts in the text above as a table.",
        "Which products are mentioned here? Answer with a list only.\n{text}",
        'Find the date in the passage and return it as {"date": ...}.\n{text}',
        "Pull the key fields (name, address, order number) out of this message: {text}",
        "Read the text and fill in the form. Name: ... Date: ... Amount: ...\n{text}",
        "Get all entities from: {text}", "{text}\nExtract the facts as bullet points with exact quotes.",
        "What is the order number in this message?\n{text}",
        "Copy every sentence that contains a number.\n{text}",
        "Give me only the email's dates, one a line.\n{text}",
        "Parse the text into JSON with the keys who, what, when.\n{text}",
        "Highlight the medication and the dosage in the note: {text}",
        "Identify all organisations mentioned below.\n{text}",
        "Extract keywords from this paragraph.\n{text}",
        "Fill a CSV with the columns name, date, amount from: {text}",
    ),
    "summary": (
        "Summarize the following text:\n{text}", "{text}\n\nTL;DR", "Give me a short summary of this email.\n{text}",
        "Summarise in one sentence: {text}", "What are the main points of this passage?\n{text}",
        "Shorten this to two sentences for a busy manager.\n\n{text}", "Write an abstract of the text below.\n{text}",
        "Condense this article into three bullet points:\n{text}", "In a nutshell, what does this say?\n{text}",
        "Make this shorter but keep the important facts: {text}",
        "Summarize: {text}",
        "summary please\n{text}",
        "Can you sum up this report for me?\n{text}",
        "Write a one-line headline for this text.\n{text}",
        "Give an executive summary of the following document.\n\n{text}",
        "What is this text about, briefly?\n{text}",
        "Boil this down to the essentials: {text}",
        "Recap the message below in your own words, at most 30 words.\n{text}",
        "Please write a brief overview of the passage.\n{text}",
        "Explain the gist of this email in a few words. {text}",
    ),
    "translation": (
        "Translate into {language}: {text}", "Translate the following text to {language}.\n\n{text}",
        'How do you say "{topic}" in {language}?', "{text}\n\nPlease translate this into {language}.",
        "What is the {language} word for {topic}?", "Give me a {language} version of this message:\n{text}",
        "Render this paragraph in formal {language}.\n{text}", 'Translate "{topic}" from English to {language}',
        "I need this email in {language}: {text}", "{language} translation please: {text}",
        "Traduce al {language}: {text}",
        "Say this in {language}: {topic}",
        "what's {topic} in {language}",
        "Translate to {language} and keep the tone.\n{text}",
    ),
    "classification": (
        "Is the sentiment of this review positive, negative or neutral?\n{text}",
        "Classify the text as one of: complaint, praise, question, other.\n{text}",
        "Label the following message with a category (billing, technical, sales).\n\n{text}",
        "Spam or not spam? Answer with one word.\n{text}", "Which topic fits best: sports, politics, health, business?\n{text}",
        "Decide whether this is urgent. Answer yes or no.\n{text}", "{text}\n\nSentiment:",
        "Rate the tone of this text on a scale from 1 to 5, only the number.\n{text}",
        "Assign the ticket to a team: hardware, software, accounts.\n{text}",
        "Does the text below mention a person? True or false.\n{text}",
        "Does this message sound angry, sad or happy?\n{text}",
        "Tag this paragraph with exactly one label: news, advertisement, personal.\n{text}",
        "Choose the right category for the text: travel, food, technology, other.\n{text}",
        "Is the author of this text satisfied? yes/no\n{text}",
        "Determine the intent of the user (cancel, buy, complain, ask): {text}",
        "Is this text formal or informal?\n{text}",
        "Review: {text}\nStars (1-5):",
        "Pick the best option. The text is about (A) business (B) science (C) daily life.\n{text}",
        "What is the sentiment of the following sentence? {text}",
        "Classify: {topic} -> animal, object, event or idea?",
        "Flag the message below as toxic or safe.\n{text}",
        "Categorize this ticket by priority: low, medium, high.\n{text}",
        "Which of these labels applies to the text? [finance, medicine, law, leisure]\n{text}",
        "Are these two sentences about the same thing? Answer yes or no. {text}",
    ),
    "creative": (
        "Write a short story about {topic}.", "Write a poem about {topic}", "Compose a haiku on {topic}.",
        "Write me a funny song about {topic}", "Invent a fairy tale in which {topic} plays a role.",
        "Give me five slogans for a company that deals with {topic}.", "Draft a dramatic monologue about {topic}.",
        "Describe {topic} in the style of Shakespeare.", "Continue the story: It was raining, and {topic} was all he could think of.",
        "Write an essay of 500 words about {topic}.", "Come up with a creative title for a novel on {topic}.",
        "Imagine a dialogue between two strangers about {topic}.", "Write a heartfelt letter about {topic}.",
        "Tell me a bedtime story about {topic}",
        "Write a limerick on {topic}",
        "Write a scene for a play about {topic}.",
        "Make up a legend that explains {topic}.",
        "write some rap lyrics about {topic}",
        "Write a blog post with a personal touch on {topic}.",
        "Give me a funny product description for {topic}",
    ),
    "code": (
        "Fix the bug in this function:\n```python\ndef mean(xs):\n    return sum(xs) / len(x)\n```",
        "Explain what this SQL does: SELECT name, COUNT(*) FROM orders GROUP BY name HAVING COUNT(*) > 3;",
        "Write a bash script that renames all files about {topic} in a folder",
        "How do I reverse a list in Python?", "Write a JavaScript class that models {topic}",
        "Write unit tests for a module about {topic} in Go.", "Why do I get a NullPointerException in this Java loop?",
        "Refactor this code to use async/await:\nfetch(url).then(r => r.json()).then(d => console.log(d));",
        "Give me a regular expression that matches an email address", "Write a Dockerfile for a Flask app on {topic}",
        "Implement a REST endpoint that returns data on {topic}", "Convert this loop into a list comprehension in Python",
        "What is wrong with this code? for (int i = 0; i <= arr.length; i++) { sum += arr[i]; }",
        "Write a Python program that prints information on {topic}",
        "write a sql query that returns the ten best customers",
        "How can I parse JSON in Rust?",
        "What does `git rebase -i HEAD~3` do?",
        "Create an HTML page with a form about {topic}",
        "my code throws KeyError: 'name', what should I change?\nprint(user['name'])",
        "Explain recursion with a code example in C++",
        "Implement binary search in TypeScript.",
        "def fibonacci(n):\n    \"\"\"Return the n-th Fibonacci number.\"\"\"\n",
        "Write a function that checks whether a string is a palindrome",
        "How do I center a div in CSS?",
        "Optimise this query, it is slow: SELECT * FROM users u JOIN orders o ON u.id = o.user_id WHERE o.total > 100",
        "Add type hints and docstrings to the function below.\ndef area(w, h): return w * h",
        "How do I install a package with pip in a virtual environment?",
        "Write a Kubernetes deployment for a service about {topic}",
        "Traceback (most recent call last):\n  File \"main.py\", line 3\nTypeError: unsupported operand type(s)\nHow do I fix it?",
    ),
    "maths": (
        "What is 17 * 24?", "Solve for x: 3x + 7 = 25", "Compute the derivative of x^3 sin(x).", "What is 15% of 240?",
        "Prove that the square root of 2 is irrational.", "Integrate 1/(1+x^2) from 0 to 1.", "how much is 250 + 375?",
        "A train travels 180 km in 2 hours. What is its average speed?", "Simplify (a+b)^2 - (a-b)^2.",
        "What is the probability of rolling two sixes with two dice?", "Find the area of a circle with radius 5.",
        "Factor x^2 - 5x + 6.",
        "What is the square root of 144?",
        "Convert 3/8 to a decimal.",
        "12 + 7 * 3 = ?",
        "If a shirt costs 40 dollars and is 25% off, what do I pay?",
        "Find the limit of sin(x)/x as x goes to 0.",
        "How many ways are there to choose 3 people out of 10?",
        "Solve the system x + y = 10, x - y = 4.",
        "Tom has 12 apples, gives away a third and buys 5 more. How many does he have now?",
        "What is the determinant of [[1,2],[3,4]]?",
        "Calculate the compound interest on 1000 euros at 5% over 3 years.",
        "What is the sum of the first 100 natural numbers?",
    ),
    "question_answering": (
        "Who invented the telephone?", "What is the capital of Australia?", "When did {topic} first become popular?",
        "How does {topic} work?", "What causes {topic}?", "Why is {topic} important?", "Where does the word for {topic} come from?",
        "What is the difference between {topic} and {topic}?", "Explain {topic} in simple terms.",
        "What are the advantages and disadvantages of {topic}?", "Which country is best known for {topic}?",
        "According to the text, what happened?\n{text}",
        "who wrote Don Quixote?",
        "How tall is Mount Everest?",
        "what year did the second world war end",
        "Is {topic} healthy?",
        "What does DNA stand for?",
        "Name three facts about {topic}.",
        "Why is the sky blue?",
        "Based on the passage, why did it happen?\n{text}",
    ),
    "reasoning": (
        "If all cats are animals and some animals are black, can we conclude that some cats are black?",
        "Anna is taller than Ben. Ben is taller than Carl. Who is the shortest?",
        "Three boxes are labelled apples, oranges and both, and every label is wrong. How do you find out with one pick?",
        "A man must bring a wolf, a goat and a cabbage over a river. How does he do it?",
        "Plan, step by step, how to organise {topic} with five people who are each free on different days.",
        "Compare two strategies for {topic}, weigh the evidence, and argue for one.",
        "Solve the riddle: the more you take, the more you leave behind. What is it?",
        "Five friends sit in a row. Dora does not sit next to Emil. Finn sits at an end. Where can Gina sit?",
        "Is the following argument valid? All birds can fly. Penguins are birds. Therefore penguins can fly.",
        "There are two doors and two guards; one always lies. What do you ask?",
        "Today is Tuesday. What day will it be in 100 days? Explain your reasoning.",
        "Who owns the fish, given these clues? The red house is left of the blue one. The baker lives in the red house.",
        "Tom is older than Sue, Sue is older than Jim, and Kim is younger than Jim. Put them in order.",
        "You have 8 balls, one heavier. Find it with a balance in two weighings.",
        "What would happen if {topic} did not exist? Think it through step by step.",
        "Find the flaw in this reasoning about {topic}: it has always been so, therefore it will always be so.",
        "Weigh the arguments for and against {topic} and come to a conclusion.",
        "Decide what we should do first and why: {text}",
        "If it rains the match is cancelled. The match was not cancelled. Did it rain?",
        "What comes next in the sequence: A, C, F, J, ...?",
        "Alice says Bob lies. Bob says Carl lies. Carl says both lie. Who tells the truth?",
        "Given the facts below, who is most likely responsible, and why?\n{text}",
        "Make a detailed plan with risks and alternatives for {topic}.",
        "Which assumption does this conclusion rest on?\n{text}",
    ),
}  # fmt: skip


_FILLERS: Final = {"topic": TOPICS, "text": TEXTS, "language": LANGUAGES}
_GAP: Final = re.compile(r"\{(topic|text|language)\}")


@dataclass(frozen=True, slots=True)
class Seed:
    """A written prompt. `template` is what a held-out fold leaves out."""

    text: str
    task: str
    template: str


def seeds(seed: int) -> list[Seed]:
    """All templates, each filled a few times; the same seed gives the same prompts."""
    rng = random.Random(seed)
    return [
        Seed(text, task, f"{task}:{number}")
        for task, templates in TEMPLATES.items()
        for number, template in enumerate(templates)
        for text in _filled(template, rng)
    ]


def _filled(template: str, rng: random.Random) -> Iterator[str]:
    if not _GAP.search(template):
        yield from _spelled(template)
        return
    yield from sorted({_GAP.sub(lambda gap: rng.choice(_FILLERS[gap[1]]), template) for _ in range(PER_TEMPLATE)})


def _spelled(text: str) -> Iterator[str]:
    """A template without a gap, as careful and as careless people type it."""
    yield text
    if "```" not in text:
        yield text.lower()
        yield text.rstrip("?.!")
        yield f"{text} please"
