"""BudgetService over gRPC."""

from __future__ import annotations

from typing import Any

from farthing.accounting.v1.budget_service_pb2 import (
    BudgetState,
    ListBudgetsRequest,
    ListBudgetsResponse,
    SetBudgetRequest,
    SetBudgetResponse,
    SetPolicyRequest,
    SetPolicyResponse,
)
from farthing.accounting.v1.budget_service_pb2_grpc import BudgetServiceServicer
from farthing_accounting.app.budgeting import Budgeting, BudgetStanding
from farthing_accounting.handler import fields, messages, policies
from farthing_kit.wire import money_to_message


class BudgetHandler(BudgetServiceServicer):
    """Limits and policies."""

    def __init__(self, budgeting: Budgeting) -> None:
        self._budgeting = budgeting

    async def SetBudget(self, request: SetBudgetRequest, context: Any) -> SetBudgetResponse:
        budget = await self._budgeting.set_budget(messages.budget_from(request.budget), fields.once(request))
        return SetBudgetResponse(budget=messages.budget(budget))

    async def ListBudgets(self, request: ListBudgetsRequest, context: Any) -> ListBudgetsResponse:
        found = await self._budgeting.of_org(fields.org("org", request.org))
        return ListBudgetsResponse(budgets=[_state(standing) for standing in found])

    async def SetPolicy(self, request: SetPolicyRequest, context: Any) -> SetPolicyResponse:
        org, policy = fields.org("org", request.org), policies.policy_from(request.policy)
        return SetPolicyResponse(
            policy=policies.policy(await self._budgeting.set_policy(org, policy, fields.once(request)))
        )


def _state(found: BudgetStanding) -> BudgetState:
    now = found.standing
    return BudgetState(
        budget=messages.budget(found.budget),
        spent=money_to_message(now.spent),
        reserved=money_to_message(now.held),
        spent_tokens=now.spent_tokens,
        reserved_tokens=now.held_tokens,
        in_flight=now.in_flight,
    )
