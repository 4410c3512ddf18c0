"""Shared by the tests of the app."""

import pytest

from demo.texts import Texts
from tests.demo.fakes import ready_workbench, tone


@pytest.fixture
def texts():
    return Texts("en")


@pytest.fixture
def workbench():
    """A workbench whose scripted engine is loaded."""
    return ready_workbench()


@pytest.fixture
def clip(tmp_path):
    """A short, fine recording on disk."""
    from model.audio import save_waveform

    path = tmp_path / "clip.wav"
    save_waveform(path, tone(1.5))
    return str(path)
