"""The commands, their options, and nothing else: each calls one module."""

import sys
from datetime import datetime
from pathlib import Path

import click

from farthing.gateway.v1 import gateway_service_pb2 as gateway_pb
from farthing.type.v1 import model_pb2
from farthing_cli import ask as asking
from farthing_cli import check, outcomes, replay, report, tenants, trace
from farthing_cli import compare as comparing
from farthing_cli import keys as api_keys
from farthing_cli.arguments import (
    MAX_INT32,
    MAX_INT64,
    MAX_TEXT_BYTES,
    MAX_WAIT_S,
    SINCE_HELP,
    Label,
    Moment,
    Number,
    Text,
    Whole,
)
from farthing_cli.cache import cache
from farthing_cli.console import complain, console, say, say_json, say_lines
from farthing_cli.errors import CliError, Farthing, InputError, complete
from farthing_cli.mesh import DEFAULT_STATE, find
from farthing_cli.models import models
from farthing_cli.up import commands as mesh_commands

TIERS = {"small": model_pb2.TIER_SMALL, "medium": model_pb2.TIER_MEDIUM, "large": model_pb2.TIER_LARGE}


@click.group(cls=Farthing, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="farthing-cli", prog_name="farthing")
@click.option(
    "--state",
    type=click.Path(path_type=Path, file_okay=False),
    default=DEFAULT_STATE,
    envvar="FARTHING_STATE",
    show_default=True,
    help="Folder of the mesh that runs here.",
)
@click.pass_context
def main(context: click.Context, state: Path) -> None:
    """Serve language models for less, and prove it.

    Commands talk to the mesh of --state. To talk to another, set FARTHING_GATEWAY (host:port) and FARTHING_API_KEY, and
    for reports FARTHING_ACCOUNTING (host:port) and FARTHING_MESH_SECRET_FILE.

    Exit codes: 0; 1 when the mesh could not or would not, or a check found something; 2 when what was typed or stands
    in a file cannot be used, and nothing was sent; 130 after Ctrl-C.
    """
    context.obj = state


@main.command()
@click.argument("question", type=Text())
@click.option("--tier", type=click.Choice(sorted(TIERS)), help="The tier that shall answer; else the mesh chooses.")
@click.option("--model", type=Label(), default="", help="The model that shall answer, by name.")
@click.option("--system", type=Text(), default="", help="Instructions that come before the question.")
@click.option(
    "--max-tokens", type=Whole(1, MAX_INT32), help="The most tokens of the answer; else the limit of the policy."
)
@click.option("--temperature", type=Number(0, 2), help="0 (always the same answer) to 2.")
@click.option("--no-cache", is_flag=True, help="Neither answer from a cache nor keep the answer.")
@click.option("--org", type=Label(), help="Ask as this demonstration tenant.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Number(0, MAX_WAIT_S, inside=True),
    default=120,
    show_default=True,
    help="Seconds to wait.",
)
@click.option(
    "--quality-floor",
    type=Number(0, 1, inside=True),
    help="The least probability of an acceptable answer, for this question.",
)
@click.option("--session", "session_id", type=Label(), default="", help="The session that the question belongs to.")
@click.option("-v", "--explain", is_flag=True, help="Show what each tier was thought to be worth.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_obj
def ask(
    state: Path,
    question: str,
    tier: str | None,
    model: str,
    system: str,
    max_tokens: int | None,
    temperature: float | None,
    no_cache: bool,
    org: str | None,
    timeout_s: float,
    quality_floor: float | None,
    session_id: str,
    explain: bool,
    as_json: bool,
) -> None:
    """Ask one question ("-" reads it from standard input)."""
    text = standard_input() if question == "-" else question
    messages = [message(model_pb2.CHAT_ROLE_SYSTEM, system)] if system else []
    prompt = gateway_pb.Prompt(
        messages=[*messages, message(model_pb2.CHAT_ROLE_USER, text)],
        sampling=model_pb2.Sampling(max_output_tokens=max_tokens, temperature=temperature),
        tier=TIERS[tier] if tier else model_pb2.TIER_UNSPECIFIED,
        model=model,
        cache_control=gateway_pb.CacheControl(no_cache=no_cache, no_store=no_cache),
        session_id=session_id,
        quality_floor=quality_floor,
    )
    answer = complete(asking.ask(find(state), prompt, org=org, timeout_s=timeout_s, as_json=as_json))
    if explain and not as_json:
        console().print(asking.explained(answer.decision))


def message(role: model_pb2.ChatRole.ValueType, text: str) -> model_pb2.ChatMessage:
    """One message of a conversation."""
    return model_pb2.ChatMessage(role=role, content=text)


def standard_input() -> str:
    """All that is piped in, as a text."""
    try:
        return Text().read(sys.stdin.buffer.read(MAX_TEXT_BYTES + 1).decode("utf-8", "surrogateescape"))
    except ValueError as error:
        raise InputError(f"standard input {error}") from None


@main.command("replay")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False), required=False)
@click.option("--concurrency", type=Whole(1, 1024), default=4, show_default=True, help="Requests in flight at most.")
@click.option(
    "--arrivals",
    type=click.Choice([each.value for each in replay.Arrivals]),
    default="closed",
    show_default=True,
    help="closed: one after another; recorded: at the file's offsets; poisson: at random.",
)
@click.option("--speed", type=Number(0.001, 1_000_000), default=1, help="With recorded: this many times faster.")
@click.option("--rate", type=Number(0.001, 1_000_000), default=1, help="With poisson: requests a second.")
@click.option("--seed", type=Whole(-MAX_INT64, MAX_INT64), default=0, help="With poisson: the seed of the arrivals.")
@click.option("--limit", type=Whole(1, MAX_INT32), help="Only the first N requests.")
@click.option(
    "--part",
    type=Label(),
    default="",
    help='Only lines whose "part" this is, such as "test" in the bundled graded file.',
)
@click.option("--tier", type=click.Choice(sorted(TIERS)), help="Send every request to this tier.")
@click.option("--model", type=Label(), default="", help="Send every request to this model.")
@click.option("--quality-floor", type=Number(0, 1, inside=True), help="For every request, instead of policies.")
@click.option("--no-cache", is_flag=True, help="Without caches.")
@click.option("--graded", is_flag=True, help="The bundled questions whose answers are graded, instead of FILE.")
@click.option("--compare", is_flag=True, help="Without caches, three times: always small, always large, and routed.")
@click.option("--report-outcomes", is_flag=True, help="Tell the mesh which graded answers were right, to learn from.")
@click.option(
    "--timeout",
    "timeout_s",
    type=Number(0, MAX_WAIT_S, inside=True),
    default=300,
    show_default=True,
    help="Seconds for each request.",
)
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of text.")
@click.pass_obj
def replay_command(
    state: Path,
    file: Path | None,
    concurrency: int,
    arrivals: str,
    speed: float,
    rate: float,
    seed: int,
    limit: int | None,
    part: str,
    tier: str | None,
    model: str,
    quality_floor: float | None,
    no_cache: bool,
    graded: bool,
    compare: bool,
    report_outcomes: bool,
    timeout_s: float,
    as_json: bool,
) -> None:
    """Send a file of requests; without FILE, the bundled sample. Exit code 1 when any of them failed."""
    source = file or (replay.bundled("mixed_graded") if graded or compare else replay.bundled_sample())
    load = replay.Load(concurrency, replay.Arrivals(arrivals), speed, rate, seed, timeout_s)
    if compare:
        if tier or model:
            raise InputError("--compare chooses the tiers itself: leave --tier and --model out")
        runs = complete(comparing.compare(find(state), source, limit, part, load, quiet=as_json))
        comparing.show(runs, as_json=as_json)
        raise SystemExit(int(any(run.outcome.failures for run in runs)))
    named = TIERS[tier] if tier else model_pb2.TIER_UNSPECIFIED
    requests = replay.read_requests(source, replay.Reading(limit, part, model, named, quality_floor, no_cache))
    outcome = replay.Outcome()
    try:
        complete(replay.replay(find(state), requests, load, quiet=as_json, outcome=outcome))
    except (KeyboardInterrupt, SystemExit):  # what came until then was paid for
        replay.show(outcome, as_json=as_json)
        raise
    if report_outcomes:
        complete(replay.report_outcomes(find(state), outcome))
    replay.show(outcome, as_json=as_json)
    if outcome.failures:
        raise SystemExit(1)


@main.command("report")
@click.option(
    "--by", type=click.Choice(sorted(report.GROUPS)), default="tenant", show_default=True, help="How to group."
)
@click.option("--tag", type=Label(least=1), help="Group by the value of this tag instead.")
@click.option("--json", "as_json", is_flag=True, help="One JSON object instead of a table.")
@click.pass_obj
def report_command(state: Path, by: str, tag: str | None, as_json: bool) -> None:
    """What was spent and saved, from the ledger."""
    response = complete(report.fetch(find(state), by, tag))
    if as_json:
        say_json(report.as_dict(response))
    else:
        report.show(response, f"tag {tag}" if tag else by, console())


@main.command("verify")
@click.pass_obj
def verify_command(state: Path) -> None:
    """Compute the books again. Exit code 1 when something does not add up."""
    books = complete(report.verify(find(state)))
    say_lines(report.verdict(books))
    if books.violations:
        raise SystemExit(1)


@main.command("outcome")
@click.argument("request_id", type=Label(least=1))
@click.argument("verdict", metavar="VERDICT", type=click.Choice(sorted(outcomes.VERDICTS)))
@click.option("--org", type=Label(), help="As this demonstration tenant.")
@click.pass_obj
def outcome_command(state: Path, request_id: str, verdict: str, org: str | None) -> None:
    """Say whether the answer to an earlier request was good or bad; the mesh learns from it."""
    complete(outcomes.report(find(state), request_id, org, acceptable=outcomes.VERDICTS[verdict]))


@main.command("outcomes")
@click.option("--since", type=Moment(), help=SINCE_HELP)
@click.pass_obj
def outcomes_command(state: Path, since: datetime | None) -> None:
    """What was foretold about answers and what became of them, one JSON object a line. For operators."""
    for observed in complete(outcomes.observed(find(state), since)):
        say_json(outcomes.as_dict(observed), indent=None)


@main.command("trace")
@click.argument("request_id", type=Label(least=1))
@click.pass_obj
def trace_command(state: Path, request_id: str) -> None:
    """Draw the spans of a request."""
    trace.show(find(state).state.traces_file, request_id, console())


@main.group("tenants")
def tenants_group() -> None:
    """Organisations with their keys, budgets and policies."""


@tenants_group.command("apply")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--prune", is_flag=True, help="Lift the budgets of these organisations that FILE does not name.")
@click.pass_obj
def tenants_apply(state: Path, file: Path, prune: bool) -> None:
    """Bring the mesh to what FILE says. Each key that is made now is printed, once, as ORG KEY and whom it is for.

    What is on the mesh and not in FILE is named on standard error, and stays: budgets until --prune, keys until
    farthing keys revoke.
    """
    complete(tenants.apply(find(state), file, show=api_keys.show, tell=complain, prune=prune))


@tenants_group.command("erase")
@click.argument("org", type=Label(least=1))
@click.confirmation_option(prompt="Its keys end, and its users, tags and cached answers are forgotten for ever. Go on?")
@click.pass_obj
def tenants_erase(state: Path, org: str) -> None:
    """Forget ORG: keys, budgets, users, tags, cached answers. What it spent stays in the books, without names."""
    say(complete(tenants.erase(find(state), org)))


@main.group("keys")
def keys_group() -> None:
    """API keys. Each is shown once, when it is made: only a hash of it is kept."""


@keys_group.command("create")
@click.argument("org", type=Label(least=1))
@click.option("--team", type=Label(), default="", help="The team that pays.")
@click.option("--user", type=Label(), default="", help="The user or service account that pays.")
@click.pass_obj
def keys_create(state: Path, org: str, team: str, user: str) -> None:
    """Make one more key and print it, once, as ORG KEY and whom it is for."""
    complete(api_keys.create(find(state), org, team, user))


@keys_group.command("list")
@click.argument("org", type=Label(least=1))
@click.pass_obj
def keys_list(state: Path, org: str) -> None:
    """The keys of ORG, without their secrets."""
    found = complete(api_keys.of_org(find(state), org))
    if not found:
        raise CliError(f"{org} has no keys; make one: farthing keys create {org}")
    console().print(api_keys.table(found))


@keys_group.command("revoke")
@click.argument("key_id", type=Label(least=1))
@click.pass_obj
def keys_revoke(state: Path, key_id: str) -> None:
    """End the key with this id, as farthing keys list shows it. Ending it twice is the same as once."""
    owner = complete(api_keys.revoke(find(state), key_id)).principal
    say(f"the key {owner.key_id} of {api_keys.whose(owner.org, owner.team, owner.user)} is revoked")


@main.group()
def config() -> None:
    """Look at settings."""


@config.command("check")
@click.option(
    "--env-file",
    type=click.Path(path_type=Path, dir_okay=False, exists=True),
    help="Settings in a file, as in compose's .env.",
)
def config_check(env_file: Path | None) -> None:
    """Name every setting that is unknown, wrong, or unsafe. Exit code 1 when there is one."""
    findings = check.findings(check.environment(env_file))
    say_lines(findings)
    if findings:
        raise SystemExit(1)
    say("every FARTHING_ setting is known, valid, and safe")


main.add_command(models)
main.add_command(cache)
mesh_commands.register(main)
