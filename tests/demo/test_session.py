from demo.session import Sessions, new_session


def test_stop_reaches_only_the_session_that_asked():
    sessions = Sessions()
    a, b = new_session(), new_session()
    turn_a, turn_b = sessions.begin(a), sessions.begin(b)
    assert sessions.stop(a) is turn_a
    assert turn_a.cancel.is_set() and not turn_b.cancel.is_set()


def test_a_new_turn_stops_the_one_before_it():
    sessions = Sessions()
    first = sessions.begin("a")
    second = sessions.begin("a")
    assert first.cancel.is_set() and not second.cancel.is_set()
    sessions.end("a", first)
    assert sessions.stop("a") is second, "the end of an old turn must not forget the new one"


def test_nothing_to_stop_is_no_error():
    assert Sessions().stop("a") is None
    assert Sessions().forget("unknown") is None


def test_a_closed_connection_stops_its_turn():
    sessions = Sessions()
    sessions.remember("connection", "a")
    turn = sessions.begin("a")
    assert sessions.forget("connection") == "a"
    assert turn.cancel.is_set()
    assert sessions.forget("connection") is None
