"""The entry point of `python -m flyteops.packs.matrix`."""

from flyteops.packs import run

if __name__ == "__main__":
    run("Matrix")
