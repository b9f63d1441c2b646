"""Matrix: messages, reactions and invitations in rooms become events, and flows answer there."""

try:
    from flyteops.packs.matrix.pack import create
except ModuleNotFoundError as error:
    from flyteops.errors import FlyteError

    message = (
        f"the pack Matrix needs {error.name}; run `make packs PACKS=matrix` in the folder of"
        " Flyte's source"
    )
    raise FlyteError(message) from error

__all__ = ["create"]
