"""Networks in half precision whose numbers may overflow: what is not finite is computed once more in float32, or told."""

from __future__ import annotations

import copy
from collections.abc import Callable

import torch
from torch import nn

HALF = (torch.float16, torch.bfloat16)


def finite(what: str, run: Callable[..., torch.Tensor], network: nn.Module, *inputs: torch.Tensor) -> torch.Tensor:
    """run(network, *inputs), (n, …) as each input: rows with NaN or infinity in half precision once more in float32.

    Raises ValueError, naming `what`, if they are not finite then either: decoded, they would be a black image.
    """
    output = run(network, *inputs)
    bad = ~output.isfinite().flatten(1).all(1)
    if bad.any() and next(network.parameters()).dtype in HALF:
        rows = (x[bad.to(x.device)] for x in inputs)
        output = output.float().clone()
        output[bad] = run(copy.deepcopy(network).float(), *(x.float() if x.is_floating_point() else x for x in rows))
        bad = ~output.isfinite().flatten(1).all(1)
    if bad.any():
        raise ValueError(
            f"{what}: expected finite numbers, got NaN or infinity for {int(bad.sum())} of {len(bad)} images: "
            "choose another seed or prompt, or check the response"
        )
    return output
