"""How many examples property tests try."""

import os


def examples(number: int) -> int:
    """Return the number of examples: all of them for `make e2e`, a quarter for `make test`,
    which has little time.
    """
    return number if os.environ.get("FLYTE_TEST_THOROUGH") else max(5, number // 4)
