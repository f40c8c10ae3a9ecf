"""A local model's own tokenizer, for tests: run by the Python of build/triton, it answers in lines of JSON.

The first line tells the ids and texts of the tokens that are no ordinary text, as the weights file types them, and what
farthing_triton makes of that; afterwards each line is a text, and its answer the ids that the engine reads in it.
"""

import json
import secrets
import sys
import urllib.request
from pathlib import Path

import xllamacpp

from farthing_triton.vocabulary import control_tokens, metadata

NORMAL, USER_DEFINED, BYTE = 1, 4, 6


def main() -> None:
    weights, key = Path(sys.argv[1]), secrets.token_urlsafe()
    settings = xllamacpp.CommonParams()
    settings.model.path = str(weights)
    settings.n_ctx, settings.verbosity, settings.warmup, settings.api_keys = 256, -1, False, [key]
    server = xllamacpp.Server(settings)
    found = metadata(weights)
    typed = enumerate(zip(found["tokenizer.ggml.tokens"], found["tokenizer.ggml.token_type"], strict=True))
    special = {number: text for number, (text, kind) in typed if kind not in (NORMAL, USER_DEFINED, BYTE)}
    print(json.dumps({"special": special, "told": control_tokens(weights)}), flush=True)
    for line in sys.stdin:
        body = json.dumps({"content": json.loads(line), "add_special": False, "parse_special": True}).encode()
        headers = {"Content-Type": "application/json", "Authorization": f"Bearer {key}"}
        with urllib.request.urlopen(
            urllib.request.Request(f"{server.listening_address}/tokenize", body, headers)
        ) as it:
            print(json.dumps(json.load(it)["tokens"]), flush=True)


main()
