from demo.session import Sessions, new_session


def test_stop_reaches_only_the_session_that_asked():
    sessions = Sessions()
    a, b = new_session(), new_session()
    turn_a, turn_b = sessions.request(a), sessions.request(b)
    assert sessions.stop(a) is turn_a
    assert turn_a.cancel.is_set() and not turn_b.cancel.is_set()


def test_a_new_turn_stops_the_one_before_it():
    sessions = Sessions()
    first = sessions.request("a")
    second = sessions.request("a")
    assert first.cancel.is_set() and not second.cancel.is_set()
    sessions.end("a", first)
    assert sessions.stop("a") is second, "the end of an old turn must not forget the new one"


def test_nothing_to_stop_is_no_error():
    assert Sessions().stop("a") is None
    assert Sessions().forget("unknown") is None


def test_a_closed_connection_stops_its_turn():
    sessions = Sessions()
    sessions.remember("connection", "a")
    turn = sessions.request("a")
    assert sessions.forget("connection") == "a"
    assert turn.cancel.is_set()
    assert sessions.forget("connection") is None


def test_the_turn_that_was_asked_for_is_the_one_that_starts():
    sessions = Sessions()
    asked = sessions.request("a")
    assert sessions.start("a") is asked and asked.is_started
    assert sessions.start("a") is not asked and asked.cancel.is_set(), "a second start is a new turn"


def test_a_turn_stopped_in_the_queue_starts_stopped():
    sessions = Sessions()
    sessions.request("a")
    assert sessions.stop("a").is_started is False
    assert sessions.start("a").cancel.is_set()
