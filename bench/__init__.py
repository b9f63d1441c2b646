"""Measurements: how fast, how small, how soon. ``make bench`` runs them against a server process of its own."""
