"""Reading a rotation: from a log to slices, windows of coins, and an effect with its test."""
