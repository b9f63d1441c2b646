"""The entry point of `python -m flyteops.packs.email`."""

from flyteops.packs import run

if __name__ == "__main__":
    run("Email")
