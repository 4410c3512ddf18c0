import errno

import pytest

from demo.errors import Problem, explain, problem_html
from demo.texts import Texts
from demo.workbench import ModelUnavailable
from model.errors import AudioError, CheckpointError, MemoryShortage, TraceError


class OutOfMemoryError(RuntimeError):
    """Named like torch's."""


def refusal(kind):
    return kind("read 'a.wav'", found="an empty file", expected="a recording", todo="Record it again.")


@pytest.mark.parametrize(
    ("error", "title"),
    [
        (refusal(AudioError), "This sound cannot be used"),
        (refusal(CheckpointError), "The model cannot be loaded"),
        (refusal(MemoryShortage), "There is not enough memory"),
        (refusal(TraceError), "This trace cannot be opened"),
    ],
)
def test_a_refusal_keeps_what_was_found_and_what_to_do(error, title, texts):
    problem = explain(error, texts)
    assert problem.title == title and problem.advice == "Record it again."
    assert "Read 'a.wav'" in problem.detail and "an empty file" in problem.detail and "a recording" in problem.detail


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT])
def test_a_full_disk_is_named_however_deep_it_lies(code, texts):
    error = refusal(AudioError)
    error.__cause__ = OSError(code, "No space left on device", "/secret/path")
    assert explain(error, texts).title == "The disk is full"
    assert "/secret" not in str(explain(error, texts))


@pytest.mark.parametrize("error", [MemoryError(), OutOfMemoryError("CUDA out of memory. Tried to allocate ...")])
def test_out_of_memory_says_what_helps(error, texts):
    assert "shorter recording" in str(explain(error, texts))


def test_an_expected_cause_is_found_under_what_wraps_it(texts):
    error = ModelUnavailable("x")
    error.__cause__ = refusal(CheckpointError)
    assert explain(error, texts).title == "The model cannot be loaded"


def test_a_missing_file_is_named_without_its_folder(texts):
    shown = str(explain(FileNotFoundError(2, "No such file", "/tmp/secret/clip.wav"), texts))
    assert "clip.wav" in shown and "secret" not in shown


def test_the_unexpected_shows_a_reference_and_logs_the_rest(texts, caplog):
    error = RuntimeError("password=hunter2 in /home/me")
    first, again = explain(error, texts), explain(error, Texts("zh"))
    assert "hunter2" not in str(first) and "/home" not in str(first)
    reference = first.detail.rsplit(" ", 1)[-1].rstrip(".")
    assert reference in again.detail and len(caplog.records) == 1
    assert reference in caplog.text and "hunter2" in caplog.text


def test_nothing_in_a_problem_becomes_markup():
    shown = problem_html(Problem("<b>", "<img src=x onerror=alert(1)>", "<script>"))
    assert "<img" not in shown and "<script>" not in shown and "&lt;img" in shown
