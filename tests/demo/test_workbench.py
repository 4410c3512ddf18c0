import threading
import time

import pytest

from demo.errors import explain
from demo.model_thread import TICK
from demo.runs import Run
from demo.settings import Settings
from demo.texts import Texts
from demo.workbench import STAGES, ModelUnavailable, Workbench, whole_share
from model.errors import CheckpointError
from tests.demo.fakes import ready_workbench, replay_engine, tone, trace_of


def wait_until(condition, seconds=5.0):
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.005)
    assert condition()


def test_start_returns_at_once_and_tells_how_far_it_is():
    go_on = threading.Event()

    def load(settings, progress):
        progress("load", 0.5)
        go_on.wait(5)
        return replay_engine()

    workbench = Workbench(Settings(), load)
    assert workbench.loading.phase == "waiting"
    began = time.monotonic()
    workbench.start()
    assert time.monotonic() - began < 0.5
    wait_until(lambda: workbench.loading.stage == "load")
    assert workbench.loading.phase == "loading" and 0.8 < workbench.loading.share < 0.95
    with pytest.raises(ModelUnavailable):
        _ = workbench.engine
    go_on.set()
    wait_until(lambda: workbench.loading.phase == "ready")
    assert workbench.loading.facts.is_scripted and workbench.loading.share == 1.0


def test_the_share_of_the_whole_only_grows():
    shares = [whole_share(stage, part) for stage in STAGES for part in (0.0, 0.5, 1.0)]
    assert shares == sorted(shares) and shares[0] == 0.0 and shares[-1] == 1.0
    assert whole_share("load", 7) == whole_share("load", 1)
    assert whole_share("something new", 0.2) < 0.5


def test_a_failed_load_leaves_a_sentence_and_an_app_that_goes_on(caplog):
    error = CheckpointError("load 'x'", found="no shard 2", expected="2 shards", todo="Copy it again.")

    def load(settings, progress):
        raise error

    workbench = Workbench(Settings(), load)
    workbench.start()
    wait_until(lambda: workbench.loading.phase == "failed")
    with pytest.raises(ModelUnavailable) as caught:
        list(workbench.answer((), None, threading.Event()))
    assert "no shard 2" in str(explain(caught.value, Texts()))
    assert workbench.runs.put(Run("a", "still works", trace_of(tone(0.5))))


def test_a_turn_asked_for_while_loading_waits_for_it():
    go_on = threading.Event()

    def load(settings, progress):
        go_on.wait(5)
        return replay_engine()

    workbench = Workbench(Settings(), load)
    workbench.start()
    job = iter(workbench.answer((), None, threading.Event()))
    assert next(job) is TICK
    go_on.set()
    assert [item for item in job if item is not TICK][-1].reason == "stop"


def test_a_closed_page_is_forgotten():
    workbench = ready_workbench()
    workbench.sessions.remember("connection", "a")
    workbench.runs.put(Run("a", "t", trace_of(tone(0.5))))
    turn = workbench.sessions.request("a")
    workbench.close_connection("connection")
    assert turn.cancel.is_set() and not workbench.runs.owned_by("a")
    workbench.close_connection("never seen")


def test_old_runs_are_forgotten_even_when_nobody_visits(monkeypatch):
    monkeypatch.setattr("demo.workbench.FORGET_EVERY_S", 0.02)
    workbench = ready_workbench(settings=Settings(run_minutes=0.05 / 60))
    workbench.runs.put(Run("a", "t", trace_of(tone(0.5))))
    wait_until(lambda: not workbench.runs._kept)
