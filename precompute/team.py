"""The processes that work on one command together: those that `accelerate launch` started, or this one alone.

accelerate launch --num_processes 4 -m precompute features --subject 1 --target vdvae
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from datetime import timedelta
from functools import cache

import torch
import torch.distributed

PATIENCE = timedelta(hours=12)  # of a process that waits for slower ones; one that died ends all at once


@dataclass(frozen=True)
class Team:
    """This process among `size`; the first one does what only one may."""

    rank: int
    size: int

    @property
    def first(self) -> bool:
        return self.rank == 0

    def wait(self) -> None:
        """Until all have come here."""
        if self.size > 1:
            torch.distributed.barrier()

    def sum(self, values: torch.Tensor) -> torch.Tensor:
        """Over processes, in place; the same in all."""
        if self.size > 1:
            torch.distributed.all_reduce(values)
        return values


@cache
def team() -> Team:
    """Joins the others at its first call."""
    if int(os.environ.get("WORLD_SIZE", "1")) == 1:
        return Team(0, 1)
    from accelerate import PartialState
    from accelerate.utils import InitProcessGroupKwargs

    how = InitProcessGroupKwargs(timeout=PATIENCE).to_kwargs()
    state = PartialState(cpu=not torch.cuda.is_available(), **how)
    return Team(state.process_index, state.num_processes)
