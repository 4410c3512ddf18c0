from dataclasses import replace

import pytest

from demo.header import count, strip_html
from demo.texts import Texts
from demo.workbench import Loading, ModelFacts, shown_name
from model.errors import CheckpointError

FACTS = ModelFacts("nano", device="cpu", dtype="float32", n_parameters=12_400_000)


def test_progress_is_visible_and_read_aloud(texts):
    shown = strip_html(Loading("loading", stage="load", share=0.85, seconds=3.2), "nano", texts)
    assert "Loading nano · reading the weights · 3 s" in shown
    assert 'role="progressbar"' in shown and 'aria-valuenow="85"' in shown and "width:85%" in shown


def test_a_ready_model_tells_what_it_is(texts):
    shown = strip_html(Loading("ready", share=1.0, facts=FACTS), "nano", texts)
    for word in ("nano", "cpu", "float32", "12.4 M parameters", "ready"):
        assert word in shown
    assert "banner" not in shown and "progressbar" not in shown


def test_a_script_is_never_mistaken_for_a_model():
    scripted = Loading("ready", facts=replace(FACTS, is_scripted=True))
    assert "No model is running" in strip_html(scripted, "nano", Texts("en"))
    assert "没有运行模型" in strip_html(scripted, "nano", Texts("zh"))


def test_a_failed_load_says_why_and_that_the_page_goes_on(texts):
    error = CheckpointError("load <b>x</b>", found="no shard 2", expected="2 shards", todo="Copy it again.")
    shown = strip_html(Loading("failed", error=error), "x", texts)
    assert "no shard 2" in shown and "Copy it again" in shown and "goes on working" in shown
    assert "<b>x</b>" not in shown


def test_an_unknown_stage_needs_no_words(texts):
    assert "Loading nano" in strip_html(Loading("loading", stage="new stage"), "nano", texts)


@pytest.mark.parametrize(
    ("number", "shown"), [(7_700_000_000, "7.7 B"), (15_300_000, "15.3 M"), (950_000, "950 k"), (12, "12")]
)
def test_counts_read_well(number, shown):
    assert count(number) == shown


def test_a_stage_without_a_share_shows_movement_and_no_folder_is_shown(texts):
    shown = strip_html(Loading("loading", stage="libraries", seconds=2.5), "/home/me/secret/mini", texts)
    assert "wanders" in shown and "animation-delay:-2.50s" in shown and "aria-valuenow" not in shown
    assert "Loading mini · starting the libraries" in shown and "secret" not in shown


@pytest.mark.parametrize(
    ("name", "shown"),
    [("nano", "nano"), ("stepfun-ai/Step-Audio-2-mini", "stepfun-ai/Step-Audio-2-mini"), ("./runs/a", "a"), ("/", "/")],
)
def test_names_of_checkpoints(name, shown):
    assert shown_name(name) == shown
