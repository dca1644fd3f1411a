"""Which voxels a regressor listens to."""

from __future__ import annotations

import numpy as np
import torch

from recon.regressors.low_rank import LowRank
from recon.regressors.mlp import MLP, Network

N_RESPONSES = 16  # at which a network's gradient is averaged


def weight_magnitude(regressor: LowRank | MLP) -> np.ndarray:
    """(n_voxels,) float32: length of the change of all targets, before rescaling, when a voxel rises by its training SD.

    Ridge: the norm of the voxel's row of down · up. MLP: that of its mean gradient over N_RESPONSES responses of independent
    standard-normal voxels, seeded: its linear path and what the hidden layer adds on average; where gradients of several
    responses point apart they cancel, so it is at most the mean of their lengths. Weights of correlated voxels share what
    either could say: a small weight does not mean that nothing is there.
    """
    if isinstance(regressor, LowRank):
        return _lengths(regressor.down, regressor.up)
    return _lengths(_mean_gradient(regressor.network).T, regressor.basis)


def _lengths(per_voxel: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Norms of the rows of per_voxel (n_voxels, r) · rows (r, n_targets), without forming it."""
    gram = rows.astype(np.float64) @ rows.T.astype(np.float64)
    return np.sqrt(np.maximum(((per_voxel @ gram) * per_voxel).sum(1), 0)).astype(np.float32)


@torch.no_grad()
def _mean_gradient(network: Network) -> np.ndarray:
    """(r, n_voxels) d outputs / d inputs."""
    inward = network.inward.weight
    responses = torch.randn(N_RESPONSES, inward.shape[1], generator=torch.Generator().manual_seed(0))

    def after(hidden: torch.Tensor) -> torch.Tensor:
        return network.outward(network.activation(network.norm(hidden)))

    gradients = torch.func.vmap(torch.func.jacrev(after))(network.inward(responses.to(inward)))
    total = gradients.mean(0) @ inward
    return (total if network.linear is None else total + network.linear.weight).cpu().numpy()
