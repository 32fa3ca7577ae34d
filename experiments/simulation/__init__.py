"""Designs run on the platform whose truth is known, side by side."""
