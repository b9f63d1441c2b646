"""The common part of all chat packs: the same commands and events, so that flows can move."""
