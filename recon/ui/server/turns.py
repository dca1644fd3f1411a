"""One bounded queue for all that computes, in which visitors take turns and none can take all the places.

gradio's own queue serves whoever came first; its version is pinned, and this changes how it admits and chooses.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import ip_address
from typing import TYPE_CHECKING

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


def in_turn(waiting: Sequence[Event], last_served: dict[str, int]) -> list[Event]:
    """Everybody's first request before anybody's second; among equals whoever was served longest ago, then who came first."""
    rounds, count = [], {}
    for event in waiting:
        visitor = visitor_of(event.request.scope)
        rounds.append((count.get(visitor, 0), last_served.get(visitor, -1)))
        count[visitor] = count.get(visitor, 0) + 1
    order = sorted(range(len(waiting)), key=rounds.__getitem__)
    return [waiting[k] for k in order]


def pending(queue: Queue) -> list[Event]:
    """All events that wait or run."""
    waiting = [event for lane in queue.event_queue_per_concurrency_id.values() for event in lane.queue]
    return waiting + [event for job in queue.active_jobs if job for event in job]


def take_turns(queue: Queue) -> None:
    """Makes gradio's queue fair by visitor."""
    push, get_events, last_served = queue.push, queue.get_events, {}

    async def push_within(body, request, username):
        visitor = visitor_of(request.scope)
        if sum(visitor_of(event.request.scope) == visitor for event in pending(queue)) >= PLACES_A_VISITOR:
            return False, FULL, "error"
        return await push(body, request, username)

    def get_in_turn():
        for lane in queue.event_queue_per_concurrency_id.values():
            lane.queue[:] = in_turn(lane.queue, last_served)
        found = get_events()
        if found:
            number = max(last_served.values(), default=-1) + 1
            last_served.update({visitor_of(event.request.scope): number for event in found[0]})
            here = {visitor_of(event.request.scope) for event in pending(queue)}
            for gone in last_served.keys() - here - {visitor_of(e.request.scope) for e in found[0]}:
                del last_served[gone]
        return found

    queue.push, queue.get_events = push_within, get_in_turn
