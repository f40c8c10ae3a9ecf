"""What a tenants file may say, and what is said when it says something else."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from cli.tests.accounting import running
from farthing.accounting.v1 import policy_pb2
from farthing.cache.v1 import cache_service_pb2 as cache_pb
from farthing.cache.v1.cache_service_pb2_grpc import CacheServiceServicer, add_CacheServiceServicer_to_server
from farthing.type.v1 import model_pb2
from farthing_cli import keys
from farthing_cli.errors import CliError, InputError
from farthing_cli.tenants import erase
from farthing_cli.tenants_file import read
from farthing_kit.local.wheels import config_dir
from farthing_kit.server import MESH_ONLY, Service
from farthing_kit.testing.server import serving


def policy(tmp_path: Path, *lines: str) -> policy_pb2.Policy:
    """The policy of a file with these lines in it."""
    file = tmp_path / "tenants.toml"
    file.write_text("\n".join(['[[tenant]]\norg = "acme"\n[tenant.policy]', *lines]))
    found = read(file)[0].policy
    assert found is not None
    return found


def test_the_demonstration_tenants_can_be_read() -> None:
    tenants = read(config_dir() / "accounting" / "tenants.toml")
    assert {tenant.org for tenant in tenants} == {"lantern", "abacus", "foundry"}
    objectives = {tenant.policy.routing.WhichOneof("objective") for tenant in tenants if tenant.policy is not None}
    assert objectives >= {"quality_floor", "spending_target"}


def test_a_policy_says_how_to_route(tmp_path: Path) -> None:
    routing = policy(
        tmp_path,
        "quality_floor = 0.8",
        "min_quality_floor = 0.6",
        "cascade = true",
        "session_seconds = 600",
        "shadow_share = 0.01",
        'task_models = { code = "coder", question_answering = "small" }',
    ).routing
    assert (routing.quality_floor, routing.min_quality_floor, routing.cascade) == (0.8, 0.6, True)
    assert (routing.session_time_to_live.seconds, routing.shadow_share) == (600, 0.01)
    assert {each.task: each.model for each in routing.task_models} == {
        model_pb2.TASK_CODE: "coder",
        model_pb2.TASK_QUESTION_ANSWERING: "small",
    }


def test_a_policy_has_one_objective_or_the_default(tmp_path: Path) -> None:
    assert policy(tmp_path).routing.WhichOneof("objective") is None
    assert policy(tmp_path, 'spending_target_usd = "0.0001"').routing.spending_target.nano_units == 100_000
    assert policy(tmp_path, 'fixed_tier = "large"').routing.fixed_tier == model_pb2.TIER_LARGE
    with pytest.raises(CliError, match=r"policy.fixed_tier cannot stand beside quality_floor"):
        policy(tmp_path, "quality_floor = 0.8", 'fixed_tier = "large"')


def test_a_policy_says_what_the_semantic_cache_may_do(tmp_path: Path) -> None:
    lines = ("max_error_share = 0.01", 'cache_scope = "user"', "hit_price_share = 0.1")
    semantic = policy(tmp_path, *lines).semantic_cache
    assert (semantic.max_error_share, semantic.hit_price_share) == (0.01, 0.1)
    assert semantic.scope == policy_pb2.CACHE_SCOPE_USER
    assert policy(tmp_path).semantic_cache.max_error_share == 0


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ("hit_price_share = 1.1", "policy.hit_price_share is 1.1, must be from 0 to 1"),
        ("hit_price_share = -0.1", "policy.hit_price_share is -0.1, must be from 0 to 1"),
        ("hit_price_share = nan", "policy.hit_price_share is nan, must be a number from 0 to 1"),
        ("hit_price_share = 0.1234567", "policy.hit_price_share is 0.1234567, must have at most 6 digits"),
        ("quality_floor = 70", "policy.quality_floor is 70, must be above 0 and below 1"),
        ("quality_floor = 1", "policy.quality_floor is 1, must be above 0 and below 1"),
        ("max_error_share = 0.5", "policy.max_error_share is 0.5, must be from 0 to 0.1"),
        ("shadow_share = 1", "policy.shadow_share is 1, must be from 0 to 0.1"),
        ('quality_floor = "0.7"', "policy.quality_floor is '0.7', must be a number, without quotation marks"),
        ("cascade = 1", "policy.cascade is 1, must be true or false"),
        ('cache_scope = "world"', "policy.cache_scope is 'world', must be one of org, team, user"),
        ('task_models = { poetry = "large" }', "task_models: there is no 'poetry'; there are chat"),
        ("quality = 0.7", "there is no 'quality'; there are cache,"),
    ],
)
def test_what_is_wrong_is_named_with_its_place(tmp_path: Path, line: str, says: str) -> None:
    with pytest.raises(CliError) as refused:
        policy(tmp_path, line)
    assert says in str(refused.value)


def refusal(tmp_path: Path, text: str) -> str:
    """What is said about a file."""
    file = tmp_path / "tenants.toml"
    file.write_text(text)
    with pytest.raises(InputError) as refused:
        read(file)
    assert refused.value.exit_code == 2
    assert "\n" not in refused.value.message
    return refused.value.message


TENANT = '[[tenant]]\norg = "acme"\n'
BUDGET = f'{TENANT}[[tenant.budget]]\nscope = "org"\n'


@pytest.mark.parametrize(
    "value", [*"NaN Infinity -Infinity 1e400 -1 1,5 ٢ 0x1 1.0000000001 .5 5.".split(), "", " ", "1 "]
)
def test_an_amount_is_digits_in_quotation_marks(tmp_path: Path, value: str) -> None:
    for line in (f'{BUDGET}limit_usd = "{value}"', f'{TENANT}[tenant.policy]\noutage_grace_usd = "{value}"'):
        assert 'must be dollars as a string, such as "20.00"' in refusal(tmp_path, line)


@pytest.mark.parametrize("line", ["limit_usd = 20.00", "limit_usd = nan", "limit_usd = 5", "limit_usd = true"])
def test_an_amount_without_quotation_marks_is_refused(tmp_path: Path, line: str) -> None:
    assert "must be dollars as a string" in refusal(tmp_path, BUDGET + line)


@pytest.mark.parametrize(
    ("line", "says"),
    [
        ('limit_usd = "9000000.01"', "limit_usd is '9000000.01', must be at most 9000000 dollars"),
        ("limit_tokens = 99999999999999999999", "must be from 0 to 9,000,000,000,000,000"),
        ("limit_tokens = -1", "limit_tokens is -1, must be from 0"),
        ("limit_tokens = nan", "limit_tokens is nan, must be a whole number"),
        ("limit_tokens = 1e3", "limit_tokens is 1000.0, must be a whole number"),
        ('limit_tokens = "5"', "limit_tokens is '5', must be a number, without quotation marks"),
        ("limit_concurrency = true", "limit_concurrency is True, must be a whole number"),
        ("limit_concurrency = 1000001", "must be from 0 to 1,000,000"),
        ("limit_tokens = []", "limit_tokens is [], must be a whole number"),
        ("", "limits nothing; name limit_usd, limit_tokens, limit_concurrency, or take it out and apply with --prune"),
        ('limit_usd = "1"\nwindow = 5', "window is 5, must be a string"),
        ('limit_usd = "1"\nscop = "org"', "there is no 'scop'"),
        ('limit_usd = "1"\n[[tenant.budget]]\nscope = "org"\nlimit_tokens = 5', "has the scope and window of"),
    ],
)
def test_a_limit_that_cannot_be_held_is_refused_with_its_place(tmp_path: Path, line: str, says: str) -> None:
    said = refusal(tmp_path, BUDGET + line)
    assert says in said
    assert "tenants.toml: tenant 1.budget" in said


def test_a_limit_of_nothing_is_a_limit(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_text(BUDGET + 'limit_usd = "0"\nlimit_tokens = 0\nlimit_concurrency = 0')
    [budget] = read(file)[0].budgets
    assert [budget.HasField(name) for name in ("limit", "limit_tokens", "limit_concurrency")] == [True] * 3
    assert (budget.limit.nano_units, budget.limit_tokens, budget.limit_concurrency) == (0, 0, 0)


def test_amounts_are_exact(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    for text, nanos in (
        ("0.000000001", 1),
        ("1.1", 1_100_000_000),
        ("9000000", 9_000_000_000_000_000),
        ("007", 7_000_000_000),
    ):
        file.write_text(f'{BUDGET}limit_usd = "{text}"')
        assert read(file)[0].budgets[0].limit.nano_units == nanos


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("tenant = 5", "tenant must be written [[tenant]]"),
        ("tenant = [5]", "tenant 1: must be a table"),
        ("", "names no tenant; begin with [[tenant]]"),
        ("[[tenant]]", "org is not there"),
        ("[[tenant]]\norg = 5", "org is 5, must be a string"),
        ('[[tenant]]\norg = "Acme"', "must be 1 to 64 characters of a-z, 0-9 and -"),
        ('[[tenant]]\norg = "acme\\n"', "must be 1 to 64 characters of a-z, 0-9 and -"),
        (TENANT + TENANT, "has the organisation of"),
        (f"{TENANT}policy = 5", "policy: must be a table"),
        (f"{TENANT}key = 5", "key must be written [[key]]"),
        (f'{TENANT}key = "alice"', "key must be written [[key]]"),
        (f'{TENANT}[[tenant.key]]\nteam = "A B"', "team is 'A B', must be 1 to 64"),
        (f'{TENANT}[[tenant.key]]\nuser = "a\\nb"', "user has U+000A, a control character, at place 2"),
        (f'{TENANT}[[tenant.key]]\nuser = "{"x" * 129}"', "user has 129 characters, must have 0 to 128"),
        (f"{TENANT}[[tenant.key]]\n[[tenant.key]]", "key 2: has the team and user of"),
        (
            f"{TENANT}[tenant.policy]\ncache_seconds = 99999999999999999999",
            "cache_seconds is 99999999999999999999, must be",
        ),
        (f"{TENANT}[tenant.policy]\nsession_seconds = inf", "session_seconds is inf, must be a whole number"),
        (f"{TENANT}[tenant.policy]\nmax_output_tokens = 8193", "max_output_tokens is 8193, must be from 1 to 8,192"),
        (f"{TENANT}[tenant.policy]\nshadow_share = inf", "shadow_share is inf, must be a number from 0 to 0.1"),
        (f"{TENANT}[tenant.policy]\ntask_models = 5", "task_models: must be a table"),
        (f'{TENANT}[tenant.policy]\ntask_models = {{ code = "" }}', "task_models.code has 0 characters"),
        (f'{TENANT}[[tenant.budget]]\nscope = "team:A B"\nlimit_tokens = 1', "the name of a team must be"),
        (f'{TENANT}[[tenant.budget]]\nscope = "user:a\\u2028"\nlimit_tokens = 1', "a line separator"),
        ("x = " + "[" * 5_000, "is not TOML"),
        ("x = " + "9" * 5_000, "is not TOML"),
        ("[[tenant]", "is not TOML"),
    ],
)
def test_a_file_of_another_shape_is_refused_with_what_is_wrong(tmp_path: Path, text: str, says: str) -> None:
    assert says in refusal(tmp_path, text)


def test_a_byte_order_mark_and_line_ends_of_windows_do_no_harm(tmp_path: Path) -> None:
    file = tmp_path / "tenants.toml"
    file.write_bytes(b"\xef\xbb\xbf" + TENANT.replace("\n", "\r\n").encode())
    assert [tenant.org for tenant in read(file)] == ["acme"]


class Cache(CacheServiceServicer):
    """A cache that counts what it was told to erase."""

    def __init__(self) -> None:
        self.erased: list[str] = []

    async def Erase(self, request: cache_pb.EraseRequest, context: Any) -> cache_pb.EraseResponse:
        self.erased.append(request.org)
        return cache_pb.EraseResponse(keys=7)


async def test_a_tenant_is_forgotten_by_accounting_and_by_the_cache(tmp_path: Path) -> None:
    cache = Cache()  # type: ignore[abstract]
    service = Service("farthing.cache.v1.CacheService", add_CacheServiceServicer_to_server, cache, MESH_ONLY)
    async with running(tmp_path) as accounting, serving(service) as server:
        await keys.create(accounting.mesh, "acme", "", "ada")
        words = await erase(replace(accounting.mesh, cache=server.target), "acme")
        assert words.startswith("acme is forgotten: 1 API keys, the names in 0 usage events, 7 entries of the cache")
        assert (cache.erased, accounting.accounting.keys) == (["acme"], {})


async def test_nothing_is_erased_unless_all_of_it_can_be(tmp_path: Path) -> None:
    async with running(tmp_path) as accounting:
        await keys.create(accounting.mesh, "acme", "", "ada")
        with pytest.raises(CliError):
            await erase(accounting.mesh, "acme")
        assert len(accounting.accounting.keys) == 1
