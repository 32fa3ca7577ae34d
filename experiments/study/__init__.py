"""A study file: its schema, its data, its results."""
