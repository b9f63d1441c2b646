"""Hooks: addresses at which GitHub, Alertmanager and others call, and calls that become events of the pack `Webhook`."""
