"""The flow language: files, the policies of steps, and schedules. Pure."""
