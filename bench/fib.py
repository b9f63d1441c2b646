"""A pack with one command, which computes a Fibonacci number; `bench.chain` runs it."""

from dataclasses import dataclass

from flyteops.sdk import Pack

pack = Pack("Fib", health_port=None)


@dataclass
class Computed:
    """The event of a result."""

    value: int


def fib(number: int) -> int:
    """Compute a Fibonacci number as slowly as published benchmarks do."""
    return number if number < 2 else fib(number - 1) + fib(number - 2)


@pack.command()
async def compute(*, number: int) -> Computed:
    """Compute the Fibonacci number with that index."""
    return Computed(fib(number))


if __name__ == "__main__":
    pack.run()
