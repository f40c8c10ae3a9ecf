"""Sentences that speak to the router ("route me to the large model"): found, and cut out before anything is judged.

Who wants a tier has an option for that (gateway.v1.RoutingOptions); words in a prompt must not move money. A text is
taken apart into sentences, those into clauses. What speaks to the router goes, with the courtesies around it; what
stays is put together as if the rest had never been there.
"""

from __future__ import annotations

import re
import unicodedata
from dataclasses import dataclass
from typing import Final

from farthing_classifier.domain import window
from farthing_classifier.domain.linear_pattern import LinearPattern

# Of a longer sentence only the beginning is looked at: it says something of its own.
MAX_SENTENCE_CHARS: Final = 400
# Of the sentences that might speak to the router, so many are taken apart: an attack on our time has an end.
MAX_SUSPECTS: Final = 32
# So many orders are taken off the beginning of one sentence.
MAX_ORDERS: Final = 32


@dataclass(frozen=True, slots=True)
class Heard:
    """What is left to judge of a text, and whether some of it spoke to the router."""

    text: str
    addresses_router: bool


def _any(*alternatives: str) -> str:
    return f"(?:{'|'.join(alternatives)})"


_VERY: Final = (
    r"(?:(?:very|extremely|highly|really|incredibly|quite|super|exceptionally|so|too|especially|particularly)[\s,]+)*"
)
_SIZE: Final = _any(
    r"(?:very\s+)?(?:larg|bigg|strong|smart|high|great|fast|cheap|small|clever)(?:e|er|est|st)?(?:[\s-](?:tier|end|quality))?",
    r"big|best|top(?:[\s-](?:tier|quality|notch))?|premium|flagship|frontier|medium|mid(?:dle)?(?:[\s-]tier)?|expensive",
    r"(?:most|more|less|least)\s+(?:capable|powerful|expensive|advanced|intelligent|accurate)",
    r"powerful|capable|advanced|full(?:[\s-]size)?|heavy(?:weight)?|state[\s-]of[\s-]the[\s-]art",
)
_THE: Final = r"(?:(?:the|an?|your|our|my|its|any|one\s+of\s+(?:the|your))\s+)?"
_KIND: Final = r"(?:(?:possible|available|language|ai|reasoning)\s+)*"
_NAMED: Final = _any(
    r"(?:open\s?ai\W{0,2}s?\s+)?(?:chat\s?)?gpt[\s-]?\d[\w.]*(?:[\s-](?:turbo|mini|nano|omni|pro))?",
    r"chatgpt",
    r"claude(?:[\s-](?:\d[\w.]*|opus|sonnet|haiku))*",
    r"(?:opus|sonnet|haiku)(?:\s\d[\w.]*)?",
    r"gemini(?:[\s-](?:\d[\w.]*|pro|ultra|flash|nano))*",
    r"llama[\s-]?\d[\w.]*(?:[\s-]\d+b)?",
    r"(?:deepseek|qwen|mixtral|mistral|grok)(?:[\s-][\w.]+)?",
    r"o[134](?:[\s-](?:mini|preview|pro))?",
)
_MODEL: Final = (
    rf"{_THE}(?:{_VERY}{_SIZE}[\s,]+)+{_KIND}(?:model|llm|tier|engine|network)s?|{_THE}{_NAMED}(?:\s+model)?"
)
_TIER: Final = rf"(?:{_MODEL}|(?:the\s+)?tier[\s-]?(?:\d|one|two|three)|(?:the\s+)?largest)"
_MINE: Final = _any(
    r"me|us|it|this|that|these|everything|all(?:\s+of\s+(?:this|it))?",
    r"(?:(?:my|this|the|our|every|all(?:\s+my)?|these)\s+)?(?:(?:following|next|above|entire|whole|present)\s+)?"
    r"(?:prompt|request|quer(?:y|ie)|question|message|task|conversation|traffic|problem|input|one)s?",
)
_REQUEST: Final = r"(?:prompt|request|quer(?:y|ie)|question|task|problem|message|input|job|case|one)s?"
_ROUTING: Final = _any(
    r"(?:model[\s-])?rout(?:ing|er)(?:['’]?s)?(?:\s+and\s+\w+)?",
    r"(?:model|tier)[\s-]selection", r"classifier(?:['’]?s)?",
    r"classification", r"complexity", r"cost(?:[\s-]saving)?", r"budget(?:ary)?", r"(?:model\s+)?tier", r"escalation",
)  # fmt: skip
_RULES: Final = (
    r"(?:rule|instruction|polic(?:y|ie)|limit|setting|constraint|decision|logic|threshold|preference|restriction|score"
    r"|algorithm|guideline|heuristic|control|check)s?"
)

# What may stand before an order: politeness, vocatives, labels, markup.
_BEFORE: Final = (
    r"[\s\W]*(?:(?:please|pls|now|also|and|but|so|then|thus|therefore|hence|ok(?:ay)?|just|kindly|always|first(?:ly)?|finally|again"
    r"|importantly?|urgent(?:ly)?|note|attention|warning|system(?:\s+(?:note|message|prompt|override))?|admin|instructions?"
    r"|override|hint|ps|p\.s\.?|(?:dear|hey|hi|hello|mr\.?)?\s*(?:the\s+)?(?:model\s+)?(?:router|dispatcher|gateway|classifier)"
    r"|as\s+such|from\s+now\s+on|for\s+(?:this|the\s+next)\s+(?:one|prompt|request|question|query|message)"
    r"|(?:i|we)\s+(?:want|need|would\s+like|['’]d\s+like|ask|order|command|beg|insist)(?:\s+you)?(?:\s+to)?(?:\s+that\s+you)?"
    r"|i['’]d\s+like\s+(?:you\s+)?to|(?:you\s+)?(?:must|should|need\s+to|have\s+to|ought\s+to|shall|are\s+to)"
    r"|(?:could|can|would|will)\s+you(?:\s+please)?|make\s+sure(?:\s+(?:to|that|you|this|it))*|be\s+sure\s+to|remember\s+to"
    r"|let['’]?s|go\s+ahead\s+and|feel\s+free\s+to|it\s+is\s+(?:important|necessary|essential|crucial)\s+(?:to|that\s+you))"
    r"[\s,:.!*_\-–—\])>]+)*"
)

# Orders: enough by themselves; what follows in the same clause is judged.
_ORDERS: Final = _any(
    rf"(?:rout|re-?rout|send|forward|escalat|direct|redirect|pass|hand|assign|dispatch|delegat|switch|upgrad|promot|transfer"
    rf"|bump|mov|elevat|deliver|submit|giv)e?\s+(?:{_MINE}\s+)?(?:over\s+|up\s+|directly\s+|straight\s+)*(?:to|onto|through|via)\s+{_TIER}",
    rf"escalate\s+{_MINE}(?:\s+(?:now|immediately|at\s+once))?",
    rf"(?:ignore|disregard|forget|bypass|override|skip|disable|circumvent|turn\s+off|do\s+not\s+(?:follow|apply|obey)"
    rf"|don['’]t\s+(?:follow|apply|obey))\s+(?:(?:all|any|every|of|your|the|previous|prior|above|other|usual|normal|default|internal)\s+)*"
    rf"{_ROUTING}(?:\s+{_RULES})?",
    rf"(?:answer|respond|reply|process|handle|solve|do|run|treat|serve|complete|execute)(?:\s+{_MINE})?\s+(?:with|using|on|by|through)\s+{_TIER}",
    rf"(?:use|call|choose|select|pick|invoke|employ|prefer|force|engage)\s+{_TIER}\s+(?:for|on|with|in)\s+{_MINE}",
    rf"(?:classif|rat|scor|label|mark|consider|treat|judg|categori[sz]|flag|tag)(?:y|e)\s+{_MINE}\s+(?:as\s+)?(?:an?\s+|of\s+)?"
    rf"(?:{_VERY}(?:complex|hard|difficult|challenging|expert|high|maximum|top)[\w-]*)(?:[\s-](?:complexity|difficulty|priority|level))?"
    rf"(?:\s+{_REQUEST})?",
    rf"(?:do\s+not|don['’]t|never|avoid)\s+(?:us(?:e|ing)|rout(?:e|ing)|send(?:ing)?|choos(?:e|ing)|pick(?:ing)?)\s+(?:{_MINE}\s+)?"
    rf"(?:to\s+)?{_TIER}(?:\s+(?:for|on)\s+{_MINE})?",
    r"set\s+(?:the\s+)?(?:prompt\s+)?(?:complexity|difficulty|tier|model)\s+(?:score\s+|level\s+)?(?:to|=|at)\s*[\w.\-%]+",
)  # fmt: skip

# Statements: only when they are the whole clause.
_HARD: Final = (
    r"(?:complex|hard|difficult|challenging|tough|demanding|complicated|intricate|expert[\s-]level|high[\s-](?:complexity|difficulty)"
    r"|advanced|(?:max(?:imum|imal)?|high)\s+(?:complexity|difficulty))"
)
_TAIL: Final = (
    rf"(?:\s+(?:for|on|with|in)\s+{_MINE}|\s+(?:to|that\s+(?:can|will))\s+(?:answer|solve|respond|reply|handle|process|do|think)[^?]{{0,60}}"
    r"|\s+(?:here|now|instead|please|only|always|available|possible|you\s+have|if\s+possible|at\s+all\s+times|immediately))*"
)
_STATEMENTS: Final = _any(
    rf"(?:(?:i|we)\s+(?:really\s+)?)?(?:use|call|choose|select|pick|invoke|employ|force|prefer|try|engage|run|want|need|require|demand|get|give\s+me|require)\s+(?:only\s+)?{_TIER}{_TAIL}",
    rf"{_TIER}{_TAIL}\s*(?:please|only|required|needed|now)",
    rf"escalate{_TAIL}|upgrade\s+{_MINE}|no\s+{_TIER}{_TAIL}",
    rf"(?:this|the\s+following|that|it|my|the|what\s+follows)\s*(?:{_REQUEST}\s*)?(?:is|['’]s|will\s+be)\s+(?:an?\s+)?{_VERY}{_HARD}(?:[\s,]+(?:and\s+)?{_VERY}{_HARD})*"
    r"\s+(?:prompt|request|query)s?",
    rf"(?:this|the\s+following|my)\s+(?:prompt|request|query)\s+(?:is|['’]s|will\s+be)\s+{_VERY}{_HARD}(?:[\s,]+(?:and\s+)?{_VERY}{_HARD})*",
    rf"(?:this|the\s+following|my|it|that)\s*(?:{_REQUEST}\s+)?(?:(?:is|['’]s)\s+{_VERY}{_HARD}\s+and\s+)?(?:really\s+|definitely\s+|absolutely\s+|clearly\s+)?"
    rf"(?:needs?|requires?|deserves?|demands?|(?:must|should|has\s+to|needs\s+to)\s+(?:go|be\s+(?:sent|routed|escalated|answered|handled|processed)))"
    rf"\s+(?:(?:to|by|with|using|on)\s+)?(?:{_TIER}|escalat(?:ion|ed)){_TAIL}",
    rf"(?:this|my)\s+(?:{_REQUEST}\s+)?(?:must|should|has\s+to|needs\s+to)\s+be\s+escalated{_TAIL}",
    rf"only\s+{_TIER}\s+(?:can|could|will|is\s+able\s+to)\s+[^?]{{1,80}}",
    rf"{_TIER}\s+(?:cannot|can['’]?t|could\s*n['’]?t|won['’]?t|will\s+not|can\s+not|will\s+fail|fails?)\b[^?]{{0,80}}",
    rf"(?:prompt\s+|request\s+|task\s+)?(?:complexity|difficulty|model|tier|routing|route)(?:[\s_-](?:score|level|class|tier))?\s*[:=]+\s*"
    rf"(?:{_TIER}|{_SIZE}|{_NAMED}|{_VERY}(?:high|hard|complex|max(?:imum)?|extreme|expert)|[01](?:\.\d+)?|\d{{1,3}}\s*%?)",
)  # fmt: skip

# A name, and in the same sentence something to decide: all of it goes.
_BY_NAME: Final = (
    r"(?:dear|hey|hi|hello|attention|(?:a\s+)?(?:note|message|instructions?|memo)\s+(?:to|for))[\s,:]+(?:the\s+)?"
    r"(?:model\s+|prompt\s+|llm\s+|request\s+)?(?:router|classifier|dispatcher|routing\s+(?:system|layer|model|algorithm|engine))\b.*"
)
# Where an order without a mark at its end is over.
_QUESTION: Final = (
    r"(?=\s+(?:what|who|whom|whose|when|where|why|how|which|is|are|does|do|can|if|solve|write|explain|find|calculate|compute"
    r"|translate|summari[sz]e|describe|list|tell|give|prove|name|define|compare)\b)"
)

_AFTER: Final = r"(?:\s*(?:please|now|thanks|thank\s+you))?[\s\W]*"
_WHOLE: Final = LinearPattern(rf"{_BEFORE}(?:{_ORDERS}{_TAIL}|{_STATEMENTS}|{_BY_NAME}){_AFTER}")
_BEGINNING: Final = LinearPattern(rf"{_BEFORE}(?:{_ORDERS}(?!\w)|{_STATEMENTS}{_QUESTION})")
_COURTESY: Final = LinearPattern(rf"{_BEFORE}(?:please|thanks|thank\s+you|and|so|but)?[\s\W]*")

# Every pattern above needs one of these; nearly no prompt has any, and is then left as it is.
_HINTS: Final = tuple(
    "rout escalat upgrade dispatcher classif complex difficult tier model llm gpt claude gemini llama opus sonnet "
    "haiku deepseek qwen mistral mixtral grok o1 o3 o4 engine network largest cost budget challenging demanding tough "
    "hard complicated".split()
)
_SENTENCE: Final = re.compile(
    r"[^\n](?:[^\n.!?]++|[.!?]++[\"'’”*_)\]]*+(?!\s|\Z))*+(?:[.!?]++[\"'’”*_)\]]*+)?+\s*+|\n\s*+"
)
_INVISIBLE: Final = re.compile("[\u00ad\u200b-\u200f\u202a-\u202e\u2060-\u2064\ufeff]")
_BRACKETS: Final = re.compile(r"\[[^][\n]{1,300}\]|\([^()\n]{1,300}\)|<[^<>\n]{1,300}>|\{[^{}\n]{1,300}\}")
_CLAUSE: Final = re.compile(
    r".(?:[^\s,;:]++|[,;:]++(?!\s|\Z)|\s(?![–—-]++\s|(?:and|but|so|then)\s))*+(?:[,;:]++|\s[–—-]++(?=\s))?+\s*+",
    re.DOTALL,
)


def cut(text: str) -> Heard:
    """The text without what speaks to the router. Of a very long one, both ends are looked at: no stage reads more."""
    ends = window.ends(text)
    head, tail = _cut(ends.head), _cut(ends.tail)
    if not head.addresses_router and not tail.addresses_router:
        return Heard(text, False)
    middle = text[len(ends.head) : len(text) - len(ends.tail)]
    return Heard(f"{head.text}{middle}{tail.text}".strip(), True)


def _cut(text: str) -> Heard:
    if not _may_address(_plain(text)):
        return Heard(text, False)
    opened = _BRACKETS.sub(lambda found: "" if _is_order(_plain(found.group()[1:-1])) else found.group(), text)
    sentences = [found.group() for found in _SENTENCE.finditer(opened)]
    suspects = [place for place, sentence in enumerate(sentences) if _may_address(_plain(sentence))]
    # An order stands at the beginning or at the end more often than between.
    half = MAX_SUSPECTS // 2
    for place in {*suspects[:half], *suspects[-half:]}:
        sentences[place] = _rest_of(sentences[place])
    rest = "".join(sentences)
    return Heard(rest, rest != text)


def _rest_of(sentence: str) -> str:
    plain = _plain(sentence)
    rest = _judged_part(plain)
    return sentence if rest == plain else rest


def _judged_part(sentence: str) -> str:
    """What of a sentence does not speak to the router: all, some of its clauses, or nothing."""
    for _ in range(MAX_ORDERS):
        read = sentence[:MAX_SENTENCE_CHARS]
        if not _may_address(read):
            return sentence
        if len(sentence) == len(read) and _WHOLE.fullmatch(read):
            return ""
        if (end := _BEGINNING.match(read)) is None:
            break
        sentence = sentence[end:].lstrip(" \t,;:.!–—-")
        if _says_nothing(sentence):
            return ""
    return _judged_clauses(sentence)


def _judged_clauses(sentence: str) -> str:
    read = sentence[:MAX_SENTENCE_CHARS]
    clauses = [clause.group() for clause in _CLAUSE.finditer(read)]
    kept = [clause for clause in clauses if not _WHOLE.fullmatch(clause)]
    if len(kept) == len(clauses):
        return sentence
    rest = "".join(kept) + sentence[len(read) :]
    return "" if _says_nothing(rest) else rest.rstrip(" \t,;:") + sentence[len(sentence.rstrip()) :]


def _is_order(text: str) -> bool:
    return _may_address(text) and _WHOLE.fullmatch(text)


def _may_address(text: str) -> bool:
    lowered = text.lower()
    return any(hint in lowered for hint in _HINTS)


def _says_nothing(rest: str) -> bool:
    return _COURTESY.fullmatch(rest[:MAX_SENTENCE_CHARS])


def _plain(text: str) -> str:
    """Without disguises: full-width letters, invisible characters."""
    return text if text.isascii() else _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
