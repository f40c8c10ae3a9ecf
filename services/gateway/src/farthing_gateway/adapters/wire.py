"""Values of the gateway as shared messages of the mesh, and back."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from enum import IntEnum
from functools import lru_cache
from typing import Final, TypeVar

from google.protobuf.timestamp_pb2 import Timestamp

from farthing.accounting.v1.policy_pb2 import HitPrice as HitPriceMessage
from farthing.accounting.v1.usage_event_pb2 import Attempt as AttemptMessage
from farthing.type.v1.model_pb2 import ChatMessage, ChatRole
from farthing.type.v1.model_pb2 import Sampling as SamplingMessage
from farthing.type.v1.model_pb2 import Tier as TierMessage
from farthing.type.v1.usage_pb2 import Quote as QuoteMessage
from farthing_gateway.domain.attempt import Attempt
from farthing_gateway.domain.catalogue import Quote
from farthing_gateway.domain.model import Tier
from farthing_gateway.domain.prompt import Message, Sampling
from farthing_kit.money import HitPrice
from farthing_kit.wire import prices_from_message, prices_to_message

QUOTES: Final = 256
EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
E = TypeVar("E", bound=IntEnum)


def known(kind: type[E], number: int, otherwise: E) -> E:
    """The member with that number; a number of a newer contract is `otherwise`."""
    try:
        return kind(number)
    except ValueError:
        return otherwise


def tier_to_message(tier: Tier) -> TierMessage.ValueType:
    """The numbers are the same."""
    return TierMessage.ValueType(tier)


def messages_to_messages(messages: Iterable[Message]) -> list[ChatMessage]:
    """A conversation for a peer."""
    return [ChatMessage(role=ChatRole.ValueType(message.role), content=message.content) for message in messages]


def sampling_to_message(sampling: Sampling) -> SamplingMessage:
    """Sampling with every field set."""
    return SamplingMessage(
        max_output_tokens=sampling.max_output_tokens,
        temperature=sampling.temperature,
        top_p=sampling.top_p,
        seed=sampling.seed,
        stop=sampling.stop,
    )


@lru_cache(maxsize=QUOTES)
def quote_to_message(quote: Quote) -> QuoteMessage:
    """A quote for the books. There are as many as models and versions of prices, and each has twelve messages inside:
    they are shared, so do not change what you get; putting it into another message copies it."""
    return QuoteMessage(
        price_version=quote.price_version,
        model=quote.model,
        prices=prices_to_message(quote.prices),
        counterfactual_model=quote.counterfactual_model,
        counterfactual_prices=prices_to_message(quote.counterfactual_prices),
    )


def quote_from_message(message: QuoteMessage) -> Quote:
    """A quote that accounting gave."""
    return Quote(
        price_version=message.price_version,
        model=message.model,
        prices=prices_from_message(message.prices, "quote.prices"),
        counterfactual_model=message.counterfactual_model,
        counterfactual_prices=prices_from_message(message.counterfactual_prices, "quote.counterfactual_prices"),
    )


def hit_price_to_message(price: HitPrice) -> HitPriceMessage:
    """The price of a hit for accounting."""
    return HitPriceMessage(policy_version=price.policy_version, share_millionths=price.share)


def attempt_to_message(attempt: Attempt) -> AttemptMessage:
    """An attempt for the books; which run of a job it is, the scheduler knows."""
    return AttemptMessage(request_id=attempt.request_id, attempt_id=attempt.id, begin_time=timestamp(attempt.begun_at))


def timestamp(moment: datetime) -> Timestamp:
    """In whole numbers, and a fifth of the time that FromDatetime takes."""
    since = moment - EPOCH
    return Timestamp(seconds=since.days * 86_400 + since.seconds, nanos=since.microseconds * 1000)
