"""What tests share: clocks, builders, waiters and counters, one of each."""
