"""The Inspect tab without a browser."""

import numpy as np
import pytest

from demo.runs import Run
from demo.tabs.inspect import describe_token, file_stem, open_file, save_file, show, token_html, updates
from demo.texts import Texts
from tests.demo.fakes import tone, trace_of


@pytest.fixture(scope="module")
def trace():
    return trace_of(tone(1.0))


@pytest.fixture
def run(workbench, trace):
    return workbench.runs.put(Run("me", "14:02:07 · turn on the light", trace))


def test_an_empty_tab_teaches(workbench, texts):
    frame = show(workbench, "me", None, texts)
    assert frame.run is None and frame.choices == () and "Transcribe a recording first" in frame.message


def test_the_newest_run_is_shown_unless_another_is_chosen(workbench, trace, run, texts):
    newer = workbench.runs.put(Run("me", "newer", trace))
    assert show(workbench, "me", None, texts).run is newer
    frame = show(workbench, "me", run.id, texts)
    assert frame.run is run and frame.choices == (("newer", newer.id), (run.title, run.id))
    assert "3 layers × 4 heads" in frame.message


def test_nobody_sees_another_sessions_run_in_the_picker(workbench, run, texts):
    frame = show(workbench, "somebody else", run.id, texts)
    assert frame.run is None and frame.choices == () and "gone" in frame.message


def test_a_run_that_is_gone_says_so(workbench, run, texts):
    workbench.runs.drop_owner("me")
    assert "60 minutes" in show(workbench, "me", run.id, texts).message


def test_a_saved_trace_opens_again(workbench, run, tmp_path, texts):
    path = save_file(workbench, "me", run.id, "trace", tmp_path)
    assert path.suffix == ".trace" and path.stem == "14-02-07-turn-on-the-light"
    frame = open_file(workbench, "you", str(path), texts)
    assert frame.run.owner == "you" and frame.run.title.startswith(path.name)
    np.testing.assert_array_equal(frame.run.trace.tensors["attention.audio"], run.trace.tensors["attention.audio"])


def test_a_saved_page_stands_alone(workbench, run, tmp_path):
    page = save_file(workbench, "me", run.id, "html", tmp_path).read_text(encoding="utf-8")
    assert page.lower().startswith("<!doctype html>") and "LinkedView" in page


def test_saving_twice_overwrites_nothing(workbench, run, tmp_path):
    assert save_file(workbench, "me", run.id, "trace", tmp_path) != save_file(
        workbench, "me", run.id, "trace", tmp_path
    )


def test_nobody_saves_another_sessions_run(workbench, run, tmp_path):
    with pytest.raises(FileNotFoundError):
        save_file(workbench, "somebody else", run.id, "trace", tmp_path)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("content", [b"", b"PK\x03\x04 no zip", b"just text" * 100])
def test_a_file_that_is_no_trace_gets_a_sentence(content, workbench, run, tmp_path, texts):
    path = tmp_path / "bad.trace"
    path.write_bytes(content)
    frame = open_file(workbench, "me", str(path), texts)
    assert frame.run is None and "cannot be opened" in frame.message and str(tmp_path) not in frame.message
    assert frame.choices == ((run.title, run.id),)


def test_no_file_changes_nothing(workbench, run, texts):
    assert open_file(workbench, "me", None, texts).run is run


def test_a_token_is_described(workbench, run, texts):
    shown = describe_token(workbench, "me", run.id, 0, texts)
    assert "turn" in shown and "99.0%" in shown and "sound" in shown and "width:50.0%" in shown


@pytest.mark.parametrize("index", [-1, 9, 10**9, "0", None, True, 1.0])
def test_an_index_from_the_browser_may_be_anything(index, workbench, run, texts):
    assert "Choose a token" in describe_token(workbench, "me", run.id, index, texts)


def test_token_text_is_never_markup(texts):
    hostile = trace_of(tone(0.5), words=("<img src=x onerror=alert(1)>", "b"))
    assert "<img" not in token_html(hostile, 0, texts)


def test_what_was_not_measured_is_said(texts, trace):
    from dataclasses import replace

    blank = replace(
        trace.tokens, logprob=np.full(len(trace.tokens), np.nan), entropy=np.full(len(trace.tokens), np.nan)
    )
    shown = token_html(replace(trace, tokens=blank, tensors={}), 0, texts)
    assert shown.count("not measured") == 2 and "shares" not in shown


def test_the_page_gets_as_many_changes_as_it_has_outputs(workbench, run, texts):
    assert len(updates(show(workbench, "me", run.id, texts), texts)) == 6
    assert "转写一段录音" in updates(show(workbench, "nobody", None, Texts("zh")), Texts("zh"))[1]


@pytest.mark.parametrize(
    ("title", "stem"), [("../../etc/passwd", "etc-passwd"), ("14:02 · 打开灯", "14-02-打开灯"), ("///", "run")]
)
def test_file_names_are_plain(title, stem, trace):
    assert file_stem(Run("me", title, trace)) == stem
