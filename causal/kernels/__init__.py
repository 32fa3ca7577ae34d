"""Compiled loops over arrays: no table, no class, no check of what comes in; import lazily."""
