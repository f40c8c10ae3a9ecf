"""`farthing config check` says where money and answers would share one memory."""

import pytest

from farthing_cli.check import findings

SHARED = [
    {"FARTHING_REDIS_URL": "redis://stores:6379/0"},
    {"FARTHING_ACCOUNTING_REDIS_URL": "redis://stores:6379/0", "FARTHING_CACHE_REDIS_URL": "redis://stores:6379/1"},
    {"FARTHING_REDIS_URL": "redis://stores:6379/0", "FARTHING_CACHE_REDIS_URL": "redis://stores:6379/1?a=b"},
]
APART = [
    {},
    {"FARTHING_ACCOUNTING_REDIS_URL": "redis://stores:6379/0", "FARTHING_CACHE_REDIS_URL": "redis://stores:6380/0"},
    {"FARTHING_REDIS_URL": "redis://stores:6379/0", "FARTHING_CACHE_REDIS_URL": "redis://answers:6379/0"},
]


@pytest.mark.parametrize(("env", "shared"), [*((env, True) for env in SHARED), *((env, False) for env in APART)])
def test_one_redis_for_both_is_named_whatever_the_database(env: dict[str, str], *, shared: bool) -> None:
    assert any("accounting's Redis" in line for line in findings(env)) is shared
