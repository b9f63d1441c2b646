"""API v1: its routes, handlers and schemas."""
