"""The hooks, and the registry of all that the plugins offer."""
