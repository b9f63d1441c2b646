"""Hooks: addresses for calls of GitHub and others, which become events of the pack `Webhook`."""
