"""Advice about flows that put text from events into scripts and chat messages unquoted."""
