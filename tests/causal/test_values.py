"""Checked numbers and read-only JSON values."""

import json
import math

import numpy as np
import pytest

from causal.values import finite, frozen_json, read_only, thawed_json


@pytest.mark.parametrize(
    ("value", "plain"),
    [
        (np.float64(0.1), 0.1),
        (np.int8(-3), -3),
        (np.bool_(True), True),
        (np.str_("a"), "a"),
        (np.array([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
        ((1, (2, 3)), [1, [2, 3]]),
    ],
)
def test_frozen_json_turns_numpy_into_plain_values(value, plain):
    thawed = thawed_json(frozen_json(value, "value"))
    assert json.dumps(thawed) == json.dumps(plain)


def test_finite_names_the_number():
    assert finite("x", np.float32(2)) == 2.0
    assert type(finite("x", np.int64(2))) is float
    with pytest.raises(ValueError, match="x must be finite"):
        finite("x", math.nan)


def test_read_only_is_a_float_copy():
    own = np.arange(3)
    copy_ = read_only(own)
    assert copy_.dtype == np.float64
    assert not copy_.flags.writeable
    assert own.flags.writeable
