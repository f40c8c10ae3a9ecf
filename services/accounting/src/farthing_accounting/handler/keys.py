"""KeyService over gRPC."""

from __future__ import annotations

from typing import Any

from farthing.accounting.v1.key_service_pb2 import (
    CreateKeyRequest,
    CreateKeyResponse,
    EraseTenantRequest,
    EraseTenantResponse,
    ListKeysRequest,
    ListKeysResponse,
    RevokeKeyRequest,
    RevokeKeyResponse,
)
from farthing.accounting.v1.key_service_pb2_grpc import KeyServiceServicer
from farthing_accounting.app.erasing import Erasing
from farthing_accounting.app.issuing import Issuing
from farthing_accounting.domain.keys import KeyId
from farthing_accounting.handler import fields, messages


class KeyHandler(KeyServiceServicer):
    """API keys, and the end of all of them."""

    def __init__(self, issuing: Issuing, erasing: Erasing) -> None:
        self._issuing = issuing
        self._erasing = erasing

    async def CreateKey(self, request: CreateKeyRequest, context: Any) -> CreateKeyResponse:
        record, key = await self._issuing.create(
            fields.principal(request.org, request.team, request.user),
            fields.optional_moment(request, "expire_time"),
            fields.once(request),
        )
        return CreateKeyResponse(key=messages.key(record), api_key=key.text if key else "")

    async def ListKeys(self, request: ListKeysRequest, context: Any) -> ListKeysResponse:
        records = await self._issuing.of_org(fields.org("org", request.org))
        return ListKeysResponse(keys=[messages.key(record) for record in records])

    async def RevokeKey(self, request: RevokeKeyRequest, context: Any) -> RevokeKeyResponse:
        record = await self._issuing.revoke(KeyId(fields.text("key_id", request.key_id)))
        return RevokeKeyResponse(key=messages.key(record))

    async def EraseTenant(self, request: EraseTenantRequest, context: Any) -> EraseTenantResponse:
        erased = await self._erasing.erase(fields.org("org", request.org))
        return EraseTenantResponse(keys=erased.keys, usage_events=erased.usage_events)
