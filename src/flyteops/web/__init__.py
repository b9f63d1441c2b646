"""Flyte over HTTP: the API that packs and people use (`api`), its shapes (`wire`), and the app that serves both (`app`)."""
