import pytest

from demo.runs import Run, RunStore, new_id
from tests.demo.fakes import tone, trace_of


@pytest.fixture(scope="module")
def trace():
    return trace_of(tone(1.0))


def test_ids_cannot_be_guessed():
    ids = {new_id() for _ in range(200)}
    assert len(ids) == 200 and min(map(len, ids)) >= 22


def test_a_session_sees_its_runs_only_newest_first(trace):
    store = RunStore()
    a1, b1, a2 = (store.put(Run(owner, "t", trace, created_s=i)) for i, owner in enumerate("aba"))
    assert store.owned_by("a") == (a2, a1)
    assert store.owned_by("b") == (b1,)
    assert store.owned_by("nobody") == ()


def test_runs_are_forgotten_when_nobody_looks(trace):
    now = [0.0]
    store = RunStore(ttl_s=10, clock=lambda: now[0])
    looked_at, left_alone = store.put(Run("a", "1", trace)), store.put(Run("a", "2", trace))
    now[0] = 8
    assert store.get(looked_at.id) is looked_at
    now[0] = 12
    assert store.get(left_alone.id) is None
    assert store.owned_by("a") == (looked_at,)


def test_memory_is_bounded_and_the_least_used_goes_first(trace):
    size = Run("a", "", trace).n_bytes
    store = RunStore(max_bytes=3 * size)
    runs = [store.put(Run(f"owner {i}", str(i), trace)) for i in range(3)]
    store.get(runs[0].id)
    store.put(Run("late", "3", trace))
    assert store.get(runs[1].id) is None
    assert store.get(runs[0].id) is runs[0]
    assert store.n_bytes <= 3 * size


def test_the_newest_run_is_kept_even_when_it_is_too_large_alone(trace):
    store = RunStore(max_bytes=1)
    run = store.put(Run("a", "big", trace))
    assert store.get(run.id) is run


def test_one_session_cannot_push_out_the_others(trace):
    store = RunStore(max_per_owner=2)
    quiet = store.put(Run("quiet", "mine", trace))
    for i in range(5):
        store.put(Run("busy", str(i), trace, created_s=i))
    assert [run.title for run in store.owned_by("busy")] == ["4", "3"]
    assert store.get(quiet.id) is quiet


def test_a_closed_page_leaves_nothing(trace):
    store = RunStore()
    mine, other = store.put(Run("a", "", trace)), store.put(Run("b", "", trace))
    store.drop_owner("a")
    assert store.get(mine.id) is None and store.get(other.id) is other and len(store) == 1
