"""The two errors of a study, besides Python's own.

::

    ValueError
    ├── StudyError   the study file is absent, is not YAML, or contradicts itself   (exit code 2)
    └── DataError    only the data could tell: a file, a column or a value is wrong (exit code 3)

What cannot be written is Python's `OSError` (exit code 4). Each message is one line that says
where, what was required, what came and what to do.
"""

from __future__ import annotations


class StudyError(ValueError):
    """The study is absent or wrong in itself; raised before any data is read."""


class DataError(ValueError):
    """The study is well formed, but its data is absent, torn, lacks a column or is refused."""
