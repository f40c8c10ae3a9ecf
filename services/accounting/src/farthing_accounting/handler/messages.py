"""Values of the domain as messages of the contract, and messages of several services as values."""

from __future__ import annotations

from collections.abc import Iterable

from farthing.accounting.v1.admission_service_pb2 import Reservation
from farthing.accounting.v1.budget_service_pb2 import Budget as BudgetMessage
from farthing.accounting.v1.budget_service_pb2 import Scope as ScopeMessage
from farthing.accounting.v1.key_service_pb2 import Key
from farthing.accounting.v1.ledger_service_pb2 import Entry, Transaction
from farthing.accounting.v1.price_service_pb2 import ModelPrice as PriceMessage
from farthing.accounting.v1.report_service_pb2 import CostRow as CostRowMessage
from farthing.type.v1.principal_pb2 import Principal as PrincipalMessage
from farthing.type.v1.usage_pb2 import Quote as QuoteMessage
from farthing_accounting.domain import ledger
from farthing_accounting.domain.budgets import MAX_CONCURRENCY, MAX_TOKENS, Budget
from farthing_accounting.domain.errors import InvalidArgument
from farthing_accounting.domain.keys import KeyRecord
from farthing_accounting.domain.pricing import MAX_MODEL_CHARS, MAX_PRICE, ModelPrice, Quote
from farthing_accounting.domain.principal import MAX_USER_CHARS, Principal, is_name
from farthing_accounting.domain.reports import CostRow
from farthing_accounting.domain.reservations import Held
from farthing_accounting.domain.scopes import Scope, ScopeKind
from farthing_accounting.domain.windows import Window
from farthing_accounting.handler import fields
from farthing_kit.money import NanoUsd
from farthing_kit.wire import money_to_message, prices_from_message, prices_to_message, usage_to_message


def principal(value: Principal) -> PrincipalMessage:
    return PrincipalMessage(org=value.org, team=value.team, user=value.user, key_id=value.key_id)


def key(record: KeyRecord) -> Key:
    found = Key(principal=principal(record.principal), create_time=fields.timestamp(record.create_time))
    if record.expire_time is not None:
        found.expire_time.CopyFrom(fields.timestamp(record.expire_time))
    if record.revoke_time is not None:
        found.revoke_time.CopyFrom(fields.timestamp(record.revoke_time))
    return found


def scope(value: Scope) -> ScopeMessage:
    return ScopeMessage(kind=int(value.kind), org=value.org, id=value.id)  # type: ignore[arg-type]


def scope_from(field: str, message: ScopeMessage) -> Scope:
    org = fields.org(f"{field}.org", message.org)
    name = f"{field}.id"
    match message.kind:
        case ScopeKind.ORG:
            return Scope(org, ScopeKind.ORG, fields.text(name, message.id, least=0, most=0))
        case ScopeKind.TEAM if is_name(message.id):
            return Scope(org, ScopeKind.TEAM, message.id)
        case ScopeKind.TEAM:
            raise InvalidArgument.field(name, "must be 1 to 64 characters of [a-z0-9-]")
        case ScopeKind.USER:
            return Scope(org, ScopeKind.USER, fields.text(name, message.id, most=MAX_USER_CHARS))
        case ScopeKind.KEY:
            return Scope(org, ScopeKind.KEY, fields.text(name, message.id))
        case _:
            raise InvalidArgument.field(f"{field}.kind", "must be ORG, TEAM, USER or KEY")


def budget(value: Budget) -> BudgetMessage:
    found = BudgetMessage(
        scope=scope(value.scope),
        window=int(value.window),  # type: ignore[arg-type]
        limit_tokens=value.tokens,
        limit_concurrency=value.concurrency,
    )
    if value.money is not None:
        found.limit.CopyFrom(money_to_message(value.money))
    return found


def budget_from(message: BudgetMessage) -> Budget:
    if int(message.window) not in tuple(Window):
        raise InvalidArgument.field("budget.window", "must be MINUTE, DAY or MONTH")
    money = fields.money("budget.limit", message.limit) if message.HasField("limit") else None
    tokens, places = message.limit_tokens, message.limit_concurrency
    return Budget(
        scope=scope_from("budget.scope", message.scope),
        window=Window(message.window),
        money=None if money is None else NanoUsd(money),
        tokens=fields.count("budget.limit_tokens", tokens, most=MAX_TOKENS)
        if message.HasField("limit_tokens")
        else None,
        concurrency=fields.count("budget.limit_concurrency", places, most=MAX_CONCURRENCY)
        if message.HasField("limit_concurrency")
        else None,
    )


def reservation(value: Held) -> Reservation:
    found = Reservation(
        reservation_id=value.reservation_id,
        amount=money_to_message(value.amount),
        tokens=value.tokens,
        expire_time=fields.timestamp(value.expire_time),
        budget_pace=value.budget_pace,
    )
    if value.remaining is not None:
        found.remaining.CopyFrom(money_to_message(value.remaining))
    return found


def quote(value: Quote) -> QuoteMessage:
    return QuoteMessage(
        price_version=value.price_version,
        model=value.model,
        prices=prices_to_message(value.prices),
        counterfactual_model=value.counterfactual_model,
        counterfactual_prices=prices_to_message(value.counterfactual_prices),
    )


def price(value: ModelPrice) -> PriceMessage:
    return PriceMessage(
        model=value.model,
        tier=int(value.tier),  # type: ignore[arg-type]
        prices=prices_to_message(value.prices),
        price_version=value.version,
        effective_time=fields.timestamp(value.effective_time),
    )


def price_from(message: PriceMessage) -> ModelPrice:
    """Version and moment are the service's business."""
    prices = prices_from_message(message.prices, "price.prices")
    for bucket in ("fresh_input", "cache_read", "cache_write", "output", "reasoning"):
        fields.count(f"price.prices.{bucket}.nano_units", getattr(prices, bucket), most=MAX_PRICE)
    model = fields.text("price.model", message.model, most=MAX_MODEL_CHARS)
    moment = fields.moment("price.effective_time", message.effective_time)
    return ModelPrice(0, model, fields.tier("price.tier", message.tier), prices, moment)


def transaction(value: ledger.Transaction) -> Transaction:
    return Transaction(
        transaction_id=value.transaction_id,
        request_id=value.request_id,
        create_time=fields.timestamp(value.create_time),
        entries=[Entry(account=entry.account, amount=money_to_message(entry.amount)) for entry in value.entries],
    )


def cost_row(value: CostRow) -> CostRowMessage:
    return CostRowMessage(
        group=value.group,
        requests=value.requests,
        cache_hits=value.cache_hits,
        usage=usage_to_message(value.usage),
        cost=money_to_message(value.cost),
        cost_per_request=money_to_message(value.cost_per_request),
        cost_per_thousand_tokens=money_to_message(value.cost_per_thousand_tokens),
        counterfactual_cost=money_to_message(value.counterfactual_cost),
        saved=money_to_message(value.saved),
    )


def transactions(values: Iterable[ledger.Transaction]) -> list[Transaction]:
    return [transaction(value) for value in values]
