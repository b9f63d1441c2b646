"""Run the pack with `python -m flyteops.packs.matrix`."""

from flyteops.packs import run

if __name__ == "__main__":
    run("Matrix")
