"""Errors say four things and stay what they are when they travel."""

import pickle

import pytest

from model import errors

KINDS = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, errors.StepAudioError)]
PARTS = {"found": "a bee", "expected": "a cow", "todo": "look again"}


@pytest.mark.parametrize("kind", KINDS)
def test_message_is_one_paragraph_with_all_four_parts(kind):
    error = kind("milk 'Bella'", **PARTS)
    assert str(error) == "Could not milk 'Bella': found a bee, expected a cow. Look again."
    assert (error.tried, error.found, error.expected, error.todo) == ("milk 'Bella'", "a bee", "a cow", "look again")


@pytest.mark.parametrize("kind", KINDS)
def test_pickle_round_trip(kind):
    error = kind("milk", **PARTS)
    again = pickle.loads(pickle.dumps(error))
    assert type(again) is kind and str(again) == str(error) and vars(again) == vars(error)


def test_parts_are_required():
    with pytest.raises(TypeError):
        errors.AudioError("milk")


def test_wrong_values_are_value_errors():
    for kind in (errors.AudioError, errors.ConversationError, errors.OptionsError, errors.TraceError):
        assert issubclass(kind, ValueError)
    assert issubclass(errors.MemoryShortage, errors.CheckpointError)
