"""Single values that a study may hold."""

from __future__ import annotations

import datetime as dt
from typing import Annotated, TypeAlias

from pydantic import BeforeValidator


def _one_value(value: object) -> object:
    """Refuse lists, mappings and dates before pydantic complains about each type by itself."""
    if not isinstance(value, str | bool | int | float):
        hint = "; put the date in quotes" if isinstance(value, dt.date) else ""
        raise ValueError(  # noqa: TRY004 — pydantic turns only ValueErrors into complaints
            f"must be text, a number, true or false; got {value}{hint}"
        )
    return value


Scalar: TypeAlias = Annotated[str | bool | int | float, BeforeValidator(_one_value)]
