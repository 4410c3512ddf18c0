import threading
import time

import pytest

from demo.model_thread import TICK, TICK_S, ModelThread


def items(job):
    return [item for item in job if item is not TICK]


def test_work_comes_through_in_order_and_one_at_a_time():
    thread, log = ModelThread(), []

    def work(name):
        def steps():
            log.append(f"{name} begins")
            time.sleep(0.02)
            yield name
            log.append(f"{name} ends")

        return steps

    jobs = [thread.submit(work(name), threading.Event()) for name in "abc"]
    assert [items(job) for job in jobs] == [["a"], ["b"], ["c"]]
    assert log == [f"{name} {what}" for name in "abc" for what in ("begins", "ends")]


def test_waiting_shows_as_ticks():
    def slow():
        time.sleep(4 * TICK_S)
        yield "done"

    seen = list(ModelThread().submit(slow, threading.Event()))
    assert seen[-1] == "done" and seen.count(TICK) >= 3


def test_an_error_is_raised_where_it_is_asked_for_and_the_thread_goes_on():
    thread = ModelThread()

    def fails():
        yield 1
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        items(thread.submit(fails, threading.Event()))
    assert items(thread.submit(lambda: iter([2]), threading.Event())) == [2]


def test_cancel_is_seen_within_a_tick_even_in_the_middle_of_a_long_step():
    release, cancel = threading.Event(), threading.Event()

    def stuck():
        release.wait(5)
        yield "too late"

    job = iter(ModelThread().submit(stuck, cancel))
    next(job)
    began = time.monotonic()
    cancel.set()
    assert list(job) in ([], [TICK])
    assert time.monotonic() - began < 3 * TICK_S
    release.set()


def test_cancelled_work_never_starts():
    thread, release, ran = ModelThread(), threading.Event(), []

    def first():
        release.wait(5)
        yield 1

    def second():
        ran.append(True)
        yield 2

    cancel = threading.Event()
    running, waiting = thread.submit(first, threading.Event()), thread.submit(second, cancel)
    cancel.set()
    release.set()
    assert items(running) == [1] and items(waiting) == [] and not waiting.started
    items(thread.submit(lambda: iter([3]), threading.Event()))
    assert not ran


def test_work_is_closed_when_cancelled():
    cancel, closed = threading.Event(), threading.Event()

    def endless():
        try:
            while True:
                yield 1
                time.sleep(0.001)
        finally:
            closed.set()

    job = iter(ModelThread().submit(endless, cancel))
    while next(job) is TICK:
        pass
    cancel.set()
    assert closed.wait(2)
