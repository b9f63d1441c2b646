"""Run the `flyte` command with `python -m flyteops`."""

from flyteops.cli import main

if __name__ == "__main__":
    main()
