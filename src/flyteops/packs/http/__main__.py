"""The entry point of `python -m flyteops.packs.http`."""

from flyteops.packs import run

if __name__ == "__main__":
    run("Http")
