"""All that computes waits in one bounded queue, in which visitors take turns."""

import asyncio
from types import SimpleNamespace

import gradio as gr
import pytest
from gradio.data_classes import PredictBodyInternal

from recon.ui.server.turns import FULL, PLACES, PLACES_A_VISITOR, take_turns, visitor_of


def request_from(address: str, forwarded: str | None = None):
    headers = [(b"x-forwarded-for", forwarded.encode())] if forwarded else []
    return SimpleNamespace(scope={"type": "http", "client": (address, 1), "headers": headers})


@pytest.fixture
def queue():
    with gr.Blocks() as demo:
        gr.api(lambda: 0, api_name="slow", concurrency_id="reconstruct", concurrency_limit=1)
        gr.api(lambda: 0, api_name="other", concurrency_id="uploads", concurrency_limit=1)
    demo.queue(max_size=PLACES)
    take_turns(demo._queue)
    return demo._queue


def ask(queue, address: str, n: int = 1, fn_index: int = 0) -> list[tuple]:
    """n requests from an address -> what the queue says to each."""

    async def all_of_them():
        bodies = [PredictBodyInternal(data=[], fn_index=fn_index, session_hash=f"{address} {k}") for k in range(n)]
        return [await queue.push(body, request_from(address), None) for body in bodies]

    return asyncio.run(all_of_them())


def served(queue) -> list[str]:
    """Whom the queue chooses, one after another, until nobody waits."""
    found = []
    while chosen := queue.get_events():
        found += [event.request.scope["client"][0] for event in chosen[0]]
    return found


def test_one_visitor_cannot_fill_the_queue_and_is_told_so(queue):
    answers = ask(queue, "10.0.0.1", 20) + ask(queue, "10.0.0.1", 20, fn_index=1)
    assert [ok for ok, *_ in answers] == [True] * PLACES_A_VISITOR + [False] * (40 - PLACES_A_VISITOR)
    assert {said for ok, said, _ in answers if not ok} == {FULL} and PLACES_A_VISITOR < PLACES / 2
    assert all(ok for ok, *_ in ask(queue, "10.0.0.2", 3))


def test_what_runs_counts_and_what_has_run_does_not(queue):
    ask(queue, "10.0.0.1", PLACES_A_VISITOR)
    events, *_ = queue.get_events()
    queue.active_jobs[:] = [events]
    assert not ask(queue, "10.0.0.1")[0][0]
    queue.active_jobs[:] = [None]
    assert ask(queue, "10.0.0.1")[0][0]


def test_the_queue_as_a_whole_is_bounded(queue):
    answers = [answer for k in range(10) for answer in ask(queue, f"10.0.0.{k}", 5)]
    assert sum(ok for ok, *_ in answers) == PLACES


def test_who_comes_last_is_served_before_anybodys_second_request(queue):
    ask(queue, "greedy", 5)
    ask(queue, "b", 2)
    ask(queue, "c")
    assert served(queue) == ["greedy", "b", "c", "greedy", "b", "greedy", "greedy", "greedy"]


def test_who_was_just_served_lets_a_newcomer_go_first(queue):
    ask(queue, "greedy", 4)
    order = []
    for _ in range(4):
        order += [event.request.scope["client"][0] for event in queue.get_events()[0]]
        ask(queue, "late")
    assert order == ["greedy", "late", "greedy", "late"] or order == ["greedy", "late", "late", "greedy"]


def test_nobody_starves_behind_those_who_come_back_at_once(queue):
    """Visitors who ask again as soon as they have their answer, now and then a moment after the next one has been chosen."""
    visitors = [f"10.0.0.{k}" for k in range(PLACES_A_VISITOR)]
    for visitor in visitors:
        ask(queue, visitor)
    order, late = [], None
    for k in range(20 * len(visitors)):
        events, *_ = queue.get_events()
        order.append(events[0].request.scope["client"][0])
        if late:
            ask(queue, late)
        late = order[-1] if k % 3 == 0 else None
        if not late:
            ask(queue, order[-1])
    counts = [order.count(visitor) for visitor in visitors]
    assert max(counts) - min(counts) <= 1


def test_of_who_has_gone_nothing_is_remembered(queue):
    with_many = [f"10.0.{k}.1" for k in range(50)]
    for visitor in with_many:
        ask(queue, visitor)
        assert served(queue) == [visitor]
    (turns,) = [c.cell_contents for c in queue.get_events.__closure__ if isinstance(c.cell_contents, dict)]
    assert sum(len(lane.next_turn) for lane in turns.values()) == 0


@pytest.mark.parametrize(
    "peer, forwarded, visitor",
    [
        ("8.8.8.8", None, "8.8.8.8"),
        ("8.8.8.8", "9.9.9.9", "8.8.8.8"),
        ("10.1.2.3", "9.9.9.9", "9.9.9.9"),
        ("10.1.2.3", "6.6.6.6, 9.9.9.9", "9.9.9.9"),
        ("127.0.0.1", None, "127.0.0.1"),
        ("testclient", "9.9.9.9", "testclient"),
    ],
)
def test_a_proxys_word_counts_only_where_it_stands_in_the_same_network(peer, forwarded, visitor):
    assert visitor_of(request_from(peer, forwarded).scope) == visitor
