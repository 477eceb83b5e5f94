"""Real servers that the integration tests start for themselves on loopback, and stop."""
