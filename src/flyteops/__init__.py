"""Flyte: a server that connects the tools of a team into automated workflows."""

__version__ = "0.1.0"
