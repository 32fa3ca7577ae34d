"""What every test leaves behind as it found it."""

import sys

import pytest


@pytest.fixture(autouse=True)
def _no_open_figures():
    """Close figures: pyplot warns of more than twenty, whichever test opened them."""
    yield
    if "matplotlib.pyplot" in sys.modules:
        sys.modules["matplotlib.pyplot"].close("all")
