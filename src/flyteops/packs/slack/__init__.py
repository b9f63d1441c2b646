"""Slack: messages, reactions, buttons and slash commands become events, and flows answer there."""

try:
    from flyteops.packs.slack.pack import create
except ModuleNotFoundError as error:
    from flyteops.errors import FlyteError

    message = (
        f"the pack Slack needs {error.name}; run `make packs PACKS=slack` in the folder of Flyte's"
        " source"
    )
    raise FlyteError(message) from error

__all__ = ["create"]
