"""Measurements of speed, size and latency.

``make bench`` runs them against a separate server process.
"""
