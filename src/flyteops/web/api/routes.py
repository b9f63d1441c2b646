"""The table of API v1: every operation that is served and appears in the OpenAPI description."""

from typing import get_args

from flyteops.model import Flow, PackDeclaration
from flyteops.service.auditlog.entry import AuditEntry, ResourceKind
from flyteops.web.api import change, handlers
from flyteops.web.api.handlers import MAX_ACTIONS, MAX_WAIT, OVERDUE_AFTER
from flyteops.web.api.hookroutes import HOOKS
from flyteops.web.api.operation import Operation, Parameter, Success
from flyteops.web.api.parameter import (
    EVENT_EXAMPLE,
    EXECUTION_FILTER,
    FLOW_EXAMPLE,
    LEASE,
    PACK_EXAMPLE,
    PAGE,
    PART,
)
from flyteops.web.api.schemas import audit, wire
from flyteops.web.auth import tokens

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/packs/{packId}/events",
        handler=handlers.send_event,
        name="sendEvent",
        tag="event",
        body=wire.EventBody,
        example=EVENT_EXAMPLE,
        outcomes={
            202: Success(
                "The event is stored; Location is the URL of the decisions about it.",
                has_location=True,
            )
        },
        errors=(400, 404, 413),
    ),
    Operation(
        method="POST",
        path="/v1/packs/{packId}/actions/take",
        handler=handlers.take_action,
        name="takeAction",
        tag="action",
        query=(
            Parameter("actionName", "take only actions of this name"),
            Parameter("commandName", "another word for actionName"),
            Parameter(
                "wait",
                f"how many seconds to wait until there is something to do, {MAX_WAIT:g} at most",
                {"type": "number", "minimum": 0, "default": 0},
            ),
            Parameter(
                "max",
                "how many actions to take at most; with it the answer is a list",
                {"type": "integer", "minimum": 1, "maximum": MAX_ACTIONS},
            ),
        ),
        outcomes={
            200: Success(
                "An action, or a list of them; post each result to its link.",
                wire.ActionView,
                wire.ActionList,
            ),
            204: Success("No action is available."),
        },
        errors=(400, 404, 503),
    ),
    Operation(
        method="POST",
        path="/v1/packs/{packId}/actions/{actionId}/result",
        handler=handlers.complete_action,
        name="actionResult",
        tag="actionResult",
        body=wire.EventBody,
        example={"event": "Deployed", "payload": {"version": "1.2.3"}},
        query=(
            LEASE,
            Parameter(
                "take",
                "how many actions to take at most with the answer, without waiting for them",
                {"type": "integer", "minimum": 0, "maximum": MAX_ACTIONS, "default": 0},
            ),
        ),
        outcomes={
            200: Success(
                "The result is stored, and these are the next actions; post each result to its"
                " link.",
                wire.ActionList,
            ),
            202: Success("The result is stored, with all that follows from it."),
        },
        errors=(400, 404, 409, 413),
    ),
    Operation(
        method="POST",
        path="/v1/packs/{packId}/actions/{actionId}/heartbeat",
        handler=handlers.heartbeat,
        name="actionHeartbeat",
        tag="actionHeartbeat",
        query=(LEASE,),
        outcomes={200: Success("The pack has time until then.", wire.Heartbeat)},
        errors=(404, 409),
    ),
    Operation(
        method="POST",
        path="/v1/packs/{packId}/actions/{actionId}/return",
        handler=handlers.give_back_action,
        name="returnAction",
        tag="action",
        query=(
            LEASE,
            Parameter(
                "revision",
                "the value in the link, if the action has no time limit",
                {"type": "integer"},
            ),
        ),
        outcomes={204: Success("The action is available to others again.")},
        errors=(404, 409),
    ),
    Operation(
        method="GET",
        path="/v1/actions",
        handler=handlers.list_actions,
        name="listActions",
        tag="action",
        query=(
            Parameter(
                "state", "states, separated by commas: NEW, PENDING, UNKNOWN, SUCCESS, FATAL"
            ),
            Parameter("flowName", "the name of the flow"),
            Parameter("packName", "the name of the pack that the action is for"),
            Parameter(
                "overdue", "only those that need attention", {"type": "boolean", "default": False}
            ),
            Parameter(
                "after",
                "after how many seconds one without a time limit is overdue",
                {"type": "number", "minimum": 0, "default": OVERDUE_AFTER},
            ),
            *PAGE,
        ),
        outcomes={200: Success("The actions.", audit.ActionStatusList)},
        errors=(400,),
    ),
    Operation(
        method="POST",
        path="/v1/actions/{actionId}/resolution",
        handler=handlers.resolve_action,
        name="resolveAction",
        tag="action",
        body=wire.ResolveRequest,
        example={"resolution": "succeeded", "event": "Deployed", "payload": {"version": "1.2.3"}},
        outcomes={204: Success("It is so.")},
        errors=(400, 404, 409, 413),
    ),
    Operation(
        method="GET",
        path="/",
        handler=handlers.get_root,
        name="root",
        tag="info",
        needs_store=False,
        outcomes={200: Success("Links.", wire.RootLinks)},
    ),
    Operation(
        method="GET",
        path="/v1",
        handler=handlers.get_index,
        name="v1",
        tag="info",
        needs_store=False,
        outcomes={
            200: Success("Links; look them up by the end of their relation.", wire.RootLinks)
        },
    ),
    Operation(
        method="GET",
        path="/health",
        handler=handlers.get_health,
        name="health",
        tag="info",
        needs_store=False,
        outcomes={200: Success("All is well.")},
        errors=(500,),
    ),
    Operation(
        method="GET",
        path="/health/live",
        handler=handlers.get_liveness,
        name="healthLive",
        tag="info",
        needs_store=False,
        outcomes={200: Success("The server runs.", wire.HealthStatus)},
    ),
    Operation(
        method="GET",
        path="/health/ready",
        handler=handlers.get_readiness,
        name="healthReady",
        tag="info",
        needs_store=False,
        outcomes={
            200: Success("The server can do its work.", wire.HealthStatus),
            503: Success("It cannot just now; `reasons` says why.", wire.HealthStatus),
        },
    ),
    Operation(
        method="GET",
        path="/v1/health/problems",
        handler=handlers.list_problems,
        name="listHealthProblems",
        tag="info",
        outcomes={200: Success("What is set aside, the longest first.", wire.HealthProblemList)},
    ),
    Operation(
        method="POST",
        path="/v1/packs",
        handler=handlers.register_pack,
        name="registerPack",
        tag="pack",
        body=PackDeclaration,
        example=PACK_EXAMPLE,
        outcomes={
            201: Success(
                "The pack, with the links that it works with.", wire.PackView, has_location=True
            )
        },
        errors=(400, 413),
    ),
    Operation(
        method="GET",
        path="/v1/packs",
        handler=handlers.list_packs,
        name="listPacks",
        tag="pack",
        query=PART,
        outcomes={200: Success("The packs.", wire.PackList)},
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/v1/packs/{packId}",
        handler=handlers.get_pack,
        name="getPack",
        tag="pack",
        outcomes={200: Success("The pack.", wire.PackView)},
        errors=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/packs/{packId}/datastore/{key}",
        handler=handlers.get_pack_item,
        name="getPackItem",
        tag="pack",
        outcomes={
            200: Success(
                "The bytes as they were stored, with their content type.", bytes, media_type="*/*"
            )
        },
        errors=(403, 404),
    ),
    Operation(
        method="POST",
        path="/v1/packs/{packId}/presence",
        handler=handlers.report_presence,
        name="reportPresence",
        tag="pack",
        body=wire.PresenceReport,
        example={"instance": "7c9e6679f7425a2b", "status": "live"},
        outcomes={200: Success("How many others are connected.", wire.PresenceResponse)},
        errors=(400, 404, 413),
    ),
    Operation(
        method="DELETE",
        path="/v1/packs/{packId}",
        handler=handlers.delete_pack,
        name="deletePack",
        tag="pack",
        outcomes={204: Success("The pack is deleted; its history stays in the audit.")},
        errors=(404,),
    ),
    Operation(
        method="POST",
        path="/v1/flows",
        handler=handlers.save_flow,
        name="saveFlow",
        tag="flow",
        body=Flow,
        example=FLOW_EXAMPLE,
        outcomes={201: Success("The flow.", wire.FlowView, has_location=True)},
        errors=(400, 413),
    ),
    Operation(
        method="GET",
        path="/v1/flows",
        handler=handlers.list_flows,
        name="listFlows",
        tag="flow",
        query=PART,
        outcomes={200: Success("The flows.", wire.FlowList)},
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/v1/flows/{flowName}",
        handler=handlers.get_flow,
        name="getFlow",
        tag="flow",
        outcomes={200: Success("The flow as it was posted.", wire.FlowView)},
        errors=(404,),
    ),
    Operation(
        method="DELETE",
        path="/v1/flows/{flowName}",
        handler=handlers.delete_flow,
        name="deleteFlow",
        tag="flow",
        outcomes={204: Success("The flow is deleted; executions of it go on.")},
        errors=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/datastore",
        handler=handlers.list_items,
        name="listDatastoreItems",
        tag="datastore",
        query=PART,
        outcomes={200: Success("The items without their values.", wire.DataItemList)},
        errors=(400,),
    ),
    Operation(
        method="PUT",
        path="/v1/datastore/{key}",
        handler=handlers.save_item,
        name="saveDatastoreItem",
        tag="datastore",
        body=wire.DataItemForm,
        outcomes={
            201: Success("The item is new.", has_location=True),
            204: Success("The item was replaced."),
        },
        errors=(400, 409, 413),
    ),
    Operation(
        method="GET",
        path="/v1/datastore/{key}",
        handler=handlers.get_item,
        name="getDatastoreItem",
        tag="datastore",
        outcomes={
            200: Success(
                "The bytes as they were stored, with their content type.", bytes, media_type="*/*"
            )
        },
        errors=(404,),
    ),
    Operation(
        method="DELETE",
        path="/v1/datastore/{key}",
        handler=handlers.delete_item,
        name="deleteDatastoreItem",
        tag="datastore",
        outcomes={204: Success("The item is deleted.")},
        errors=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/audit/flows",
        handler=handlers.list_executions,
        name="findFlows",
        tag="flowAudit",
        query=EXECUTION_FILTER,
        outcomes={200: Success("The executions.", audit.ExecutionList)},
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/v1/audit/flows/{correlationId}",
        handler=handlers.get_execution,
        name="getFlowExecution",
        tag="flowAudit",
        outcomes={200: Success("The execution with all its actions.", audit.ExecutionView)},
        errors=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/executions",
        handler=handlers.list_runs,
        name="listExecutions",
        tag="execution",
        query=EXECUTION_FILTER,
        outcomes={200: Success("The executions.", audit.RunList)},
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/v1/executions/{executionId}",
        handler=handlers.get_run,
        name="getExecution",
        tag="execution",
        outcomes={200: Success("The execution with all its actions.", audit.RunView)},
        errors=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/audit/events",
        handler=handlers.list_events,
        name="findEvents",
        tag="eventAudit",
        query=(
            Parameter(
                "flowName",
                "only events about which a step of this flow was decided, and only those decisions",
            ),
            Parameter("event", "the name of the event"),
            Parameter("packName", "the name of the pack that sent it"),
            *PAGE,
        ),
        outcomes={200: Success("The events with the decisions about them.", audit.AuditEventList)},
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/v1/audit/events/{eventId}",
        handler=handlers.get_event,
        name="getEvent",
        tag="eventAudit",
        outcomes={200: Success("The event with all decisions about it.", audit.AuditEvent)},
        errors=(404,),
    ),
    Operation(
        method="GET",
        path="/v1/audit/changes",
        handler=change.list_changes,
        name="findChanges",
        tag="changeAudit",
        query=(
            Parameter(
                "kind",
                "the kind of the changed resource",
                {"type": "string", "enum": list(get_args(ResourceKind))},
            ),
            Parameter(
                "name",
                "the name of the flow, the key of the item, or the id of the pack, token or action",
            ),
            Parameter("who", "the author: an id, a name, or a kind such as server"),
            Parameter(
                "from",
                "from when on",
                {"type": "string", "format": "date-time"},
                "2026-03-01T00:00:00Z",
            ),
            Parameter(
                "until",
                "until before when",
                {"type": "string", "format": "date-time"},
                "2026-03-02T00:00:00Z",
            ),
            *PAGE,
        ),
        outcomes={200: Success("The changes.", change.ChangeList)},
        errors=(400,),
    ),
    Operation(
        method="GET",
        path="/v1/audit/changes/{seq}",
        handler=change.get_change,
        name="getChange",
        tag="changeAudit",
        outcomes={200: Success("The change.", AuditEntry)},
        errors=(404,),
    ),
    Operation(
        method="POST",
        path="/v1/tokens",
        handler=tokens.create_token,
        name="createToken",
        tag="token",
        body=tokens.CreateTokenRequest,
        example={"pack": "Deployer", "labels": {"env": "staging"}, "expiresIn": "90d"},
        outcomes={
            201: Success(
                "The token; keep it, for it is not shown again.", tokens.NewToken, has_location=True
            )
        },
        errors=(400, 413),
    ),
    Operation(
        method="GET",
        path="/v1/tokens",
        handler=tokens.list_tokens,
        name="listTokens",
        tag="token",
        outcomes={200: Success("The tokens.", tokens.TokenList)},
    ),
    Operation(
        method="GET",
        path="/v1/tokens/{tokenId}",
        handler=tokens.get_token,
        name="getToken",
        tag="token",
        outcomes={200: Success("The token, without its secret part.", tokens.TokenView)},
        errors=(404,),
    ),
    Operation(
        method="DELETE",
        path="/v1/tokens/{tokenId}",
        handler=tokens.revoke_token,
        name="revokeToken",
        tag="token",
        outcomes={204: Success("The token is revoked.")},
        errors=(404,),
    ),
    *HOOKS,
)
