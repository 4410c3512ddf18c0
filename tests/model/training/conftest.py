"""What the tests of training share."""

import importlib.util

import pytest


@pytest.fixture
def vocoder():
    """Skip where the WORLD vocoder is not installed: only those who make training sound need it."""
    if importlib.util.find_spec("pyworld") is None:
        pytest.skip("pyworld is not installed: pip install -r requirements-train.txt")
