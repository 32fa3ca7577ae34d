"""Difference-in-differences: regressions on units and periods, and their clustered errors."""
