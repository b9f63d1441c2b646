"""Programs of other engines, run by `bench.peers` with a Python that has them installed."""
