"""How long the cache itself takes to answer by meaning among a million vectors of one partition, through gRPC.

And what memory they take. Filling and reading them takes about a quarter of an hour.
"""

import argparse
import asyncio

from bench.caching import service

NOTES = __doc__ or ""


def run(options: argparse.Namespace) -> dict[str, float]:
    """The figures."""
    return asyncio.run(service.measure(options.seed, service.MILLION))
