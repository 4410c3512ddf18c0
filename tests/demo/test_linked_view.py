import json

import pytest

from demo.linked_view import layer_of, linked_view, payload
from demo.runs import Run
from tests.demo.fakes import N_LAYERS, tone, trace_of


@pytest.fixture
def run(workbench):
    return workbench.runs.put(Run("me", "a run", trace_of(tone(1.0))))


def test_the_payload_is_json_and_names_its_run(run):
    value = payload(run)
    assert value["id"] == run.id
    assert json.loads(json.dumps(value, allow_nan=False)) == value
    assert payload(None) == {}


def test_a_layer_is_fetched_by_run_and_number(workbench, run):
    for layer in range(N_LAYERS):
        answer = layer_of(workbench, {"run": run.id, "layer": layer})
        assert answer["layer"] == layer and "error" not in answer


@pytest.mark.parametrize(
    "change",
    [{"layer": 99}, {"layer": -1}, {"layer": "1"}, {"layer": True}, {"layer": None}, {"run": "guess"}, {"run": None}],
)
def test_whatever_a_browser_asks_it_gets_a_sentence(change, workbench, run):
    answer = layer_of(workbench, {"run": run.id, "layer": 0} | change)
    assert set(answer) == {"error"} and answer["error"].endswith(".")


@pytest.mark.parametrize("question", [None, "layer", 3, [], [{"run": "x"}], {}])
def test_nonsense_is_no_crash(question, workbench):
    assert set(layer_of(workbench, question)) == {"error"}


def test_the_component_leaves_no_file_behind(workbench, tmp_path):
    from pathlib import Path

    import demo.linked_view

    view = linked_view(workbench, elem_id="v")
    assert view.value == {}
    assert not list(Path(demo.linked_view.__file__).parent.glob("*.pyi"))
