"""Weighted donors, and factors, in place of a control group."""
