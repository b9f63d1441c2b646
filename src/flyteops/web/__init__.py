"""Flyte over HTTP: the API (`api`), its JSON shapes (`wire`), and the ASGI app (`app`)."""
