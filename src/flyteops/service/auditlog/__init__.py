"""The audit log: a hash chain of entries about all changes of resources, with their actors."""
