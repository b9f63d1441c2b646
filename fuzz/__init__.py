"""Inputs that nobody thought of, made from real ones: `make fuzz`."""
