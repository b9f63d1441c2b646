"""Where Flyte keeps what it was told: one port (`base`), one module for each backend."""
