"""The processes that work on one command together: those that `accelerate launch` started, or this one alone.

accelerate launch --multi_gpu --num_processes 4 -m precompute features --subject 1 --target vdvae

One process is a team of size 1: nothing below then copies or sends anything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import timedelta
from functools import cache
from typing import TypeVar

import numpy as np
import torch
import torch.distributed

from recon.environment import local_rank, world_size

PATIENCE = timedelta(days=7)  # of a process that waits for slower ones; one that died ends all at once

T = TypeVar("T")
Values = TypeVar("Values", np.ndarray, torch.Tensor)


@dataclass(frozen=True)
class Team:
    """This process among `size`; the first one does what only one may. All must call the same methods in the same order."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    def share(self, n: int) -> slice:
        """This process's of n things in order: as many as another's, or one more."""
        return slice(n * self.rank // self.size, n * (self.rank + 1) // self.size)

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            torch.distributed.barrier()

    def sum(self, values: Values) -> Values:
        """Over processes, in place; the same in all, to the last bit."""
        if self.size > 1:
            torch.distributed.all_reduce(torch.as_tensor(values))
        return values

    def sum_all(self, tensors: Sequence[torch.Tensor]) -> None:
        """Like `sum`, all in one message."""
        if self.size > 1:
            flat = self.sum(torch.cat([t.flatten() for t in tensors]))
            for t, values in zip(tensors, flat.split([t.numel() for t in tensors])):
                t.copy_(values.view_as(t))

    def joined(self, part: Values, n: int) -> Values:
        """(…, those of `share(n)`) -> (…, n): the parts of all processes side by side, in all of them."""
        if self.size == 1:
            return part
        known = torch.as_tensor(part)
        whole = known.new_zeros(*known.shape[:-1], n)
        whole[..., self.share(n)] = known
        self.sum(whole)
        return whole.numpy() if isinstance(part, np.ndarray) else whole

    def sent(self, values: torch.Tensor, owner: int = 0) -> torch.Tensor:
        """What the owner has, in all processes; the others pass a tensor of that shape, which is lost."""
        if self.size > 1:
            values = values.contiguous()
            torch.distributed.broadcast(values, owner)
        return values

    def each(self, items: Sequence[T], make: Callable[[T], torch.Tensor], like: torch.Tensor) -> Iterator[torch.Tensor]:
        """make(item) of every item, in order, in all processes; each is made by one of them, several at a time.

        `like`: a tensor of the shape, type and device of what is made.
        """
        for k in range(0, len(items), self.size):
            some = items[k : k + self.size]
            mine = make(some[self.rank]) if self.rank < len(some) else None
            for owner in range(len(some)):
                yield self.sent(mine if owner == self.rank else torch.empty_like(like), owner)

    def agreed(self, value: T) -> T:
        """What the first one says, for small values."""
        if self.size > 1:
            said = [value]
            torch.distributed.broadcast_object_list(said)
            return said[0]
        return value


ALONE = Team(0, 1)


@cache
def team() -> Team:
    """Joins the others at its first call. Raises BadFile for variables that no launcher has set so."""
    if world_size() == 1:
        return ALONE
    if torch.cuda.is_available():
        torch.cuda.set_device(local_rank())
    backend = "cpu:gloo,cuda:nccl" if torch.cuda.is_available() else "gloo"
    torch.distributed.init_process_group(backend, timeout=PATIENCE)
    return Team(torch.distributed.get_rank(), torch.distributed.get_world_size())
