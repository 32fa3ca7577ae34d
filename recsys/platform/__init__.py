"""The live platform with known truth: who is there, what moves them, and its many worlds."""
