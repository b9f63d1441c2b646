"""Email: flows send mail over SMTP, and mail that arrives in a mailbox becomes events."""

try:
    from flyteops.packs.email.pack import create
except ModuleNotFoundError as error:
    from flyteops.errors import FlyteError

    message = (
        f"the pack Email needs {error.name}; run `make packs PACKS=email` in the folder of Flyte's"
        " source"
    )
    raise FlyteError(message) from error

__all__ = ["create"]
