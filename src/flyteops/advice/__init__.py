"""Advice about flows whose commands repeat the words of outsiders: in scripts, and in chat messages."""
