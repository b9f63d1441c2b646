"""Fuzzing with unexpected inputs, made from real ones: `make fuzz`."""
