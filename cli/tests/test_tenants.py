"""What a tenants file may say, and what is said when it says something else."""

from pathlib import Path

import pytest

from farthing.accounting.v1 import policy_pb2
from farthing.type.v1 import model_pb2
from farthing_cli.errors import CliError
from farthing_cli.tenants_file import read
from farthing_kit.local.wheels import config_dir


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
        ("quality_floor = 70", "policy.quality_floor is 70, must be from 0 to 1"),
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
