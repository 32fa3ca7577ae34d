"""Effects from tables."""
