"""From an id to a number in [0, 1) that every serving stack can compute again."""

from __future__ import annotations

import hashlib
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from causal.values import whole_number

if TYPE_CHECKING:
    from numpy.typing import NDArray


def unit_hash(units: object, *, salt: str = "", seed: int = 0) -> NDArray[np.float64]:
    """Number in [0, 1) of every id: the same in every process, language and year.

    Parameters
    ----------
    units : array (n,) of whole numbers or text
        Ids. 17 and ``"17"`` are two ids.
    salt : str
        Name of the experiment: other salts give independent numbers.
    seed : int
        A further choice among the salt's numbers.

    Returns
    -------
    float64 array (n,)

    Raises
    ------
    ValueError
        If an id is missing.
    TypeError
        If ids are neither whole numbers nor text, or of both kinds.

    Notes
    -----
    With unsigned 64-bit arithmetic and blake2b of RFC 7693::

        key = first 8 bytes, little endian, of blake2b(utf8(salt + "|" + seed))
        x = id (two's complement), or blake2b(utf8(id)) of 8 bytes, little endian; x = x XOR key
        x = x + 0x9E3779B97F4A7C15; x = (x XOR x >> 30) * 0xBF58476D1CE4E5B9
        x = (x XOR x >> 27) * 0x94D049BB133111EB; x = x XOR x >> 31
        u = (x >> 11) * 2**-53

    Examples
    --------
    >>> unit_hash([17, 18], salt="rank", seed=7).round(3).tolist()
    [0.07, 0.042]
    """
    whole = whole_number("seed", seed, 0)
    digest = hashlib.blake2b(f"{salt}|{whole}".encode()).digest()
    key = np.uint64(int.from_bytes(digest[:8], "little"))
    ids = as_ids(units)
    if ids.dtype.kind in "iu":
        return _splitmix(ids.astype(np.uint64) ^ key)
    codes, texts = pd.factorize(ids)
    digests = [hashlib.blake2b(str(text).encode(), digest_size=8).digest() for text in texts]
    numbers = np.array([int.from_bytes(d, "little") for d in digests], dtype=np.uint64)
    return np.asarray(_splitmix(numbers ^ key)[codes])


def as_ids(units: object) -> NDArray[Any]:
    """Ids as int64, uint64 or an object array of text.

    Raises
    ------
    ValueError
        If an id is missing.
    TypeError
        If ids are neither whole numbers nor text, or of both kinds.
    """
    if isinstance(units, str | bytes) or not hasattr(units, "__iter__"):
        raise TypeError(f"ids must be an array; got the single value {units!r:.100}")
    column = pd.Series(units if hasattr(units, "__len__") else list(units))
    if isinstance(column.dtype, pd.CategoricalDtype):
        column = column.astype(column.cat.categories.dtype)
    absent = column.isna().to_numpy()
    if absent.any():
        rows = np.flatnonzero(absent)
        raise ValueError(
            f"ids must be present; {len(rows)} are missing, first at rows "
            f"{rows[:5].tolist()}; drop these rows or give them ids"
        )
    kind = pd.api.types.infer_dtype(column, skipna=False)
    if kind == "integer" or pd.api.types.is_integer_dtype(column.dtype):
        unsigned = pd.api.types.is_unsigned_integer_dtype(column.dtype)
        try:
            return column.to_numpy(dtype=np.uint64 if unsigned else np.int64)
        except OverflowError:
            raise ValueError(
                "ids must be whole numbers of 64 bits, all signed or all unsigned; make them text"
            ) from None
    if kind == "string":
        return column.to_numpy(dtype=object)
    if kind == "empty":
        return np.zeros(0, dtype=np.int64)
    raise TypeError(
        f"ids must be whole numbers or text, of one kind; got {kind}; convert them first"
    )


def _splitmix(x: NDArray[np.uint64]) -> NDArray[np.float64]:
    """Last step of splitmix64 and the scaling to [0, 1); wraps around on purpose."""
    x = x + np.uint64(0x9E3779B97F4A7C15)
    x = (x ^ (x >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    x = (x ^ (x >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    x = x ^ (x >> np.uint64(31))
    return np.asarray((x >> np.uint64(11)).astype(np.float64) * 2.0**-53)
