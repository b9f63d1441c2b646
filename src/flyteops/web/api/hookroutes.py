"""The operations of hooks in API v1."""

from flyteops.web.api import hook
from flyteops.web.api.operation import Operation, Parameter, Success

HOOKS: tuple[Operation, ...] = (
    Operation(
        method="POST",
        path="/v1/hooks",
        handler=hook.create_hook,
        name="createHook",
        tag="hook",
        body=hook.HookDefinition,
        example={"name": "github", "vendor": "github"},
        outcomes={
            201: Success(
                "The hook; keep its secret, for it is not shown again.",
                hook.NewHook,
                has_location=True,
            )
        },
        errors=(400, 409, 413),
    ),
    Operation(
        method="GET",
        path="/v1/hooks",
        handler=hook.list_hooks,
        name="listHooks",
        tag="hook",
        outcomes={200: Success("The hooks.", hook.HookList)},
    ),
    Operation(
        method="GET",
        path="/v1/hooks/{hookName}",
        handler=hook.get_hook,
        name="getHook",
        tag="hook",
        outcomes={200: Success("The hook.", hook.HookView)},
        errors=(404,),
    ),
    Operation(
        method="PUT",
        path="/v1/hooks/{hookName}",
        handler=hook.put_hook,
        name="updateHook",
        tag="hook",
        body=hook.HookDefinition,
        example={"vendor": "github", "description": "the shop's repository"},
        outcomes={
            200: Success("The hook as it is now.", hook.HookView),
            202: Success(
                "It was a call; its event is stored, by this call or an earlier one.",
                has_location=True,
            ),
        },
        errors=(400, 404, 413),
        needs_store=False,
        reads_itself=True,
    ),
    Operation(
        method="DELETE",
        path="/v1/hooks/{hookName}",
        handler=hook.delete_hook,
        name="deleteHook",
        tag="hook",
        outcomes={204: Success("The hook is deleted.")},
        errors=(404,),
    ),
    Operation(
        method="POST",
        path="/v1/hooks/{hookName}",
        handler=hook.call_hook,
        name="callHook",
        tag="hook",
        body=bytes,
        example={"ref": "refs/heads/main", "repository": {"full_name": "ours/shop"}},
        outcomes={
            202: Success("The event is stored, by this call or an earlier one.", has_location=True)
        },
        errors=(400, 413),
        needs_store=False,
        reads_itself=True,
    ),
    Operation(
        method="POST",
        path="/v1/hooks/{hookName}/secret",
        handler=hook.rotate_hook,
        name="rotateHook",
        tag="hook",
        body=hook.RotateSecretRequest,
        example={"keepOldFor": "1d"},
        outcomes={
            200: Success("The hook; keep its new secret, for it is not shown again.", hook.NewHook)
        },
        errors=(400, 404, 409, 413),
    ),
    Operation(
        method="GET",
        path="/v1/hooks/{hookName}/calls",
        handler=hook.list_hook_calls,
        name="listHookCalls",
        tag="hook",
        outcomes={200: Success("The calls.", hook.HookCallList)},
        errors=(404,),
    ),
    Operation(
        method="POST",
        path="/v1/hooks/{hookName}/calls/{eventId}/resend",
        handler=hook.resend_hook_call,
        name="resendHookCall",
        tag="hook",
        outcomes={200: Success("The call and its outcome.", hook.HookCallView)},
        errors=(404,),
    ),
    Operation(
        method="POST",
        path="/v1/hooks/{hookName}/test",
        handler=hook.test_hook,
        name="testHook",
        tag="hook",
        body=bytes,
        example={"ref": "refs/heads/main", "repository": {"full_name": "ours/shop"}},
        query=(Parameter("event", "the vendor's name of the event, such as push"),),
        outcomes={200: Success("The call and its outcome.", hook.HookCallView)},
        errors=(400, 404, 413),
    ),
)
