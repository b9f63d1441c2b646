"""What every chat pack has in common: the same commands and events, so that flows can move from one chat to another."""
