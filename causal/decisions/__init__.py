"""What to do with an effect: off-policy value, targeting, long-term value."""
