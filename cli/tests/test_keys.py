"""Keys that are made are shown, each once, whatever happens; what left a tenants file is named."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
import pytest_asyncio

from cli.tests.accounting import Running, limits, running
from farthing_cli import keys, tenants
from farthing_cli.errors import CliError
from farthing_cli.up import session
from farthing_kit.errors import InvalidArgument, StoreUnavailable

FILE = """
[[tenant]]
org = "acme"
[[tenant.budget]]
scope = "org"
limit_usd = "100"
[[tenant.key]]
team = "search"
[[tenant.key]]
team = "search"
user = "alice"
[[tenant.key]]
team = "ads"
"""
OTHER = """
[[tenant]]
org = "other"
[[tenant.key]]
"""
SHOWN = [
    "acme fk_k_0_secret team=search",
    "acme fk_k_1_secret team=search user=alice",
    "acme fk_k_2_secret team=ads",
]


@pytest_asyncio.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[Running]:
    async with running(tmp_path) as found:
        yield found


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return written(tmp_path / "tenants.toml", FILE)


def written(path: Path, text: str) -> Path:
    """A file with this text."""
    path.write_text(text)
    return path


async def ended(process: asyncio.subprocess.Process) -> tuple[int | None, list[str], str]:
    """Exit code, lines of standard output, standard error."""
    out, err = await process.communicate()
    return process.returncode, (out or b"").decode().splitlines(), (err or b"").decode()


async def test_every_key_of_a_file_is_shown_once(mesh: Running, file: Path) -> None:
    code, shown, _ = await ended(await mesh.farthing("tenants", "apply", str(file)))
    assert (code, shown) == (0, SHOWN)
    code, shown, told = await ended(await mesh.farthing("tenants", "apply", str(file)))
    assert (code, shown) == (0, [])
    assert told.count("cannot be shown again") == 3
    assert len(mesh.accounting.keys) == 3


async def test_keys_come_back_under_names_of_their_own(mesh: Running, file: Path) -> None:
    made = await tenants.apply(mesh.mesh, file)
    assert made == {
        "acme": "fk_k_0_secret",
        "acme/search/alice": "fk_k_1_secret",
        "acme/ads/": "fk_k_2_secret",
    }


async def test_a_key_is_shown_although_a_later_step_fails(mesh: Running, file: Path) -> None:
    written(file, FILE + OTHER)
    mesh.accounting.fails = {4: InvalidArgument.field("team", "must be known")}
    code, shown, said = await ended(await mesh.farthing("tenants", "apply", str(file)))
    assert (code, shown) == (1, SHOWN[:2])
    assert "acme: team: must be known (INVALID_FIELD); mend it and apply again" in said
    mesh.accounting.fails = {}
    code, shown, _ = await ended(await mesh.farthing("tenants", "apply", str(file)))
    assert (code, shown) == (0, [SHOWN[2], "other fk_k_3_secret"])


async def test_a_key_whose_answer_was_lost_is_told_with_the_way_out(mesh: Running, file: Path) -> None:
    mesh.accounting.fails = {2: StoreUnavailable("the store is away")}
    code, shown, said = await ended(await mesh.farthing("tenants", "apply", str(file)))
    assert (code, shown) == (1, [])
    for words in ("not known whether the key of acme team=search was made", "farthing keys list acme", "keys revoke"):
        assert words in said


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGHUP, 129)])
async def test_a_key_that_is_being_made_when_the_command_is_stopped_is_still_shown(
    mesh: Running, file: Path, number: signal.Signals, code: int
) -> None:
    mesh.accounting.go_on.clear()
    process = await mesh.farthing("tenants", "apply", str(file))
    await mesh.accounting.called.wait()
    process.send_signal(number)
    await signal_seen(process, number)
    mesh.accounting.go_on.set()
    ended_with, shown, _ = await ended(process)
    assert ended_with == code
    assert shown
    assert shown == SHOWN[: len(mesh.accounting.keys)]


async def signal_seen(process: asyncio.subprocess.Process, number: signal.Signals) -> None:
    """Wait until the process has taken the signal: it is no longer pending."""
    while True:
        status = Path(f"/proc/{process.pid}/status").read_text()  # noqa: ASYNC240 - not a file on a disk
        pending = [int(line.split()[1], 16) for line in status.splitlines() if line.startswith(("SigPnd", "ShdPnd"))]
        if not any(mask >> (number - 1) & 1 for mask in pending):
            return
        await asyncio.sleep(0)


async def test_a_key_is_not_lost_where_standard_output_is_closed(mesh: Running, file: Path) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    process = await mesh.farthing("tenants", "apply", str(file), stdout=writer)
    os.close(writer)
    code, _, said = await ended(process)
    assert code == 1
    assert SHOWN[0] in said
    assert len(mesh.accounting.keys) == 1  # none is made that could not be shown


async def test_a_key_is_in_no_representation_of_what_holds_it() -> None:
    assert "secret" not in repr(keys.NewKey("acme", "", "", "fk_secret"))


async def test_a_mesh_that_starts_here_keeps_every_key_as_soon_as_it_is_made(
    mesh: Running, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "config" / "accounting").mkdir(parents=True)
    written(tmp_path / "config" / "accounting" / "tenants.toml", FILE)
    monkeypatch.setattr(session, "config_dir", lambda: tmp_path / "config")
    folder = mesh.mesh.state
    folder.prepare()
    folder.write_keys({"acme": "fk_older"})
    mesh.accounting.fails = {4: InvalidArgument.field("team", "must be known")}
    with pytest.raises(CliError, match="must be known"):
        await session._make_tenants(mesh.mesh, folder)
    first = {"acme": "fk_older", "acme/search/": "fk_k_0_secret", "acme/search/alice": "fk_k_1_secret"}
    assert folder.keys() == first
    mesh.accounting.fails = {}
    await session._make_tenants(mesh.mesh, folder)
    assert folder.keys() == {**first, "acme/ads/": "fk_k_2_secret"}
    assert folder.keys_file.stat().st_mode & 0o777 == 0o600


async def test_a_budget_that_left_the_file_is_named_and_holds_until_it_is_pruned(mesh: Running, file: Path) -> None:
    written(file, FILE + '[[tenant.budget]]\nscope = "team:ads"\nlimit_tokens = 5\n')
    await ended(await mesh.farthing("tenants", "apply", str(file)))
    written(file, FILE)
    code, _, said = await ended(await mesh.farthing("tenants", "apply", str(file)))
    assert code == 0
    assert "acme: the budget team:ads a month: 5 tokens is not in the file and still holds" in said
    assert sum(map(limits, mesh.accounting.budgets.values())) == 2
    code, _, said = await ended(await mesh.farthing("tenants", "apply", "--prune", str(file)))
    assert code == 0
    assert "acme: lifted the budget team:ads a month: 5 tokens, which the file does not name" in said
    assert [budget.scope.id for budget in mesh.accounting.budgets.values() if limits(budget)] == [""]


async def test_a_key_that_is_not_in_the_file_is_named_and_stays(mesh: Running, file: Path) -> None:
    await ended(await mesh.farthing("keys", "create", "acme", "--team", "old"))
    _, _, said = await ended(await mesh.farthing("tenants", "apply", "--prune", str(file)))
    assert "acme: the file does not name 1 of its keys: k_0; see them with farthing keys list acme" in said


async def test_keys_are_made_and_listed_by_hand(mesh: Running) -> None:
    code, shown, _ = await ended(await mesh.farthing("keys", "create", "acme", "--user", "[/b] عليرضا"))
    assert (code, shown) == (0, ["acme fk_k_0_secret user=[/b] عليرضا"])
    code, listed, _ = await ended(await mesh.farthing("keys", "list", "acme"))
    assert code == 0
    assert any("k_0" in line and "[/b] عليرضا" in line for line in listed)
    assert not any("secret" in line for line in listed)


async def test_an_error_of_one_tenant_names_it(mesh: Running, file: Path) -> None:
    mesh.accounting.fails = {1: InvalidArgument.field("budget.limit", "is wrong")}
    with pytest.raises(CliError, match=r"acme: budget.limit: is wrong"):
        await tenants.apply(mesh.mesh, file)
