"""One bounded queue for all that computes, in which visitors take turns and none can take all the places.

gradio's own queue serves whoever came first; its version is pinned, and this changes how it admits and chooses.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING
from weakref import WeakKeyDictionary

from starlette.datastructures import Headers
from starlette.types import Scope

if TYPE_CHECKING:
    from gradio.queueing import Event, Queue

PLACES = 32  # that wait at once
PLACES_A_VISITOR = 12  # of them; a class of students may come from one address
FULL = (
    f"From your address {PLACES_A_VISITOR} requests wait or run already, which is as many as one may have here: "
    "wait for one of them."
)


def visitor_of(scope: Scope) -> str:
    """The address that a request comes from; of a proxy in the same network, the one that it says it comes from."""
    peer = scope["client"][0] if scope.get("client") else ""
    told = Headers(scope=scope).get("x-forwarded-for", "").rpartition(",")[2].strip()
    try:
        return told if told and ip_address(peer).is_private else peer
    except ValueError:  # not an address: a socket of this computer, or a test's
        return peer


class Turns:
    """Start-time fair queueing (Goyal, Vin & Cheng 1996) of requests that cost the same.

    Time is counted in rounds, in each of which everybody who waits is served once. A request's turn is the round in which it came,
    or the one after its visitor's request before it. Nobody waits for ever, and who comes back finds nobody overtaken.
    """

    def __init__(self):
        self.now, self.next_turn = 0, {}  # visitor -> the first round in which one of theirs may be served again
        self.came: WeakKeyDictionary[Event, int] = WeakKeyDictionary()

    def in_order(self, waiting: Sequence[Event]) -> list[Event]:
        """The first is who is to be served next; within a round, who came first."""
        turns, next_turn = {}, dict(self.next_turn)
        for event in waiting:
            visitor = visitor_of(event.request.scope)
            turns[event] = max(self.came.setdefault(event, self.now), next_turn.get(visitor, 0))
            next_turn[visitor] = turns[event] + 1
        return sorted(waiting, key=lambda event: (turns[event], event.enqueue_time))

    def serve(self, event: Event, waiting: Sequence[Event]) -> None:
        """Counts the turn of who is served now; `waiting` are the others; when there are none, all is forgotten."""
        visitor = visitor_of(event.request.scope)
        self.now = max(self.came[event], self.next_turn.get(visitor, 0))
        self.next_turn[visitor] = self.now + 1
        if not waiting:
            self.now, self.next_turn = self.now + 1, {}
        here = {visitor_of(other.request.scope) for other in waiting}
        self.next_turn = {v: turn for v, turn in self.next_turn.items() if turn > self.now or v in here}


def pending(queue: Queue) -> list[Event]:
    """All events that wait or run."""
    waiting = [event for lane in queue.event_queue_per_concurrency_id.values() for event in lane.queue]
    return waiting + [event for job in queue.active_jobs if job for event in job]


def take_turns(queue: Queue) -> None:
    """Makes gradio's queue fair by visitor."""
    push, get_events, turns = queue.push, queue.get_events, defaultdict(Turns)  # of each lane

    async def push_within(body, request, username):
        visitor = visitor_of(request.scope)
        if sum(visitor_of(event.request.scope) == visitor for event in pending(queue)) >= PLACES_A_VISITOR:
            return False, FULL, "error"
        return await push(body, request, username)

    def get_in_turn():
        lanes = queue.event_queue_per_concurrency_id
        for name, lane in lanes.items():
            lane.queue[:] = turns[name].in_order(lane.queue)
        found = get_events()
        if found:
            (event, *_), _, name = found
            turns[name].serve(event, lanes[name].queue)
        return found

    queue.push, queue.get_events = push_within, get_in_turn
