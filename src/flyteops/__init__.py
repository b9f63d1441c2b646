"""Flyte: a server that binds the tools a team already uses into automated workflows."""

__version__ = "0.1.0"
