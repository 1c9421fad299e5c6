"""From the request of a user to fully resolved run specs."""
