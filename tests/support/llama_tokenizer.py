"""Counts the tokens of texts by a model's own tokenizer: run in Triton's environment, with the weights as argument.

First it writes the texts that the model reads as control tokens. Then, for each line of standard input, a JSON list of
texts, it writes the list of their counts; the first token that the model puts before a prompt is included.
"""

import http.client
import json
import secrets
import sys
from pathlib import Path
from urllib.parse import urlsplit

import xllamacpp

from farthing_triton.vocabulary import control_tokens


def main() -> None:
    settings = xllamacpp.CommonParams()
    settings.model.path = sys.argv[1]
    settings.n_ctx, settings.n_parallel, settings.verbosity = 256, 1, -1
    settings.api_keys = [secrets.token_urlsafe()]
    server = xllamacpp.Server(settings)
    connection = http.client.HTTPConnection(urlsplit(server.listening_address).netloc)
    headers = {"Authorization": f"Bearer {settings.api_keys[0]}", "Content-Type": "application/json"}

    def count(text: str) -> int:
        body = json.dumps({"content": text, "add_special": True, "parse_special": True})
        connection.request("POST", "/tokenize", body, headers)
        return len(json.loads(connection.getresponse().read())["tokens"])

    print(json.dumps(control_tokens(Path(sys.argv[1]))), flush=True)
    for line in sys.stdin:
        print(json.dumps([count(text) for text in json.loads(line)]), flush=True)


if __name__ == "__main__":
    main()
