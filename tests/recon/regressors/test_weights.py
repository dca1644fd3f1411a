"""How much a regressor listens to each voxel: the lengths of its weights, without forming them."""

import numpy as np
import pytest
import torch

from recon.regressors.low_rank import LowRank
from recon.regressors.mlp import MLP, Network
from recon.regressors.standardise import Rescaler, Standardiser
from recon.regressors.weights import weight_magnitude

VOXELS, RANK, TARGETS = 5, 3, 11


def around(rng, **parts):
    return {
        "standardise": Standardiser(rng.normal(size=VOXELS).astype(np.float32), np.ones(VOXELS, np.float32)),
        "intercept": rng.normal(size=TARGETS).astype(np.float32),
        "rescale": Rescaler(np.ones(TARGETS, np.float32), np.zeros(TARGETS, np.float32)),
    } | parts


@pytest.fixture
def basis(rng):
    return rng.normal(size=(RANK, TARGETS)).astype(np.float32)


def test_of_a_linear_model_it_is_the_norm_of_each_voxels_weights(rng, basis):
    down = rng.normal(size=(VOXELS, RANK)).astype(np.float32)
    down[2] = 0
    model = LowRank(**around(rng, down=down, up=basis))
    np.testing.assert_allclose(weight_magnitude(model), np.linalg.norm(down @ basis, axis=1), rtol=1e-5)
    assert weight_magnitude(model)[2] == 0


def test_of_a_network_it_is_the_norm_of_the_mean_gradient_by_finite_differences(rng, basis):
    torch.manual_seed(0)
    network = Network(VOXELS, RANK, hidden=7).double().eval()
    torch.nn.init.normal_(network.linear.weight)
    torch.nn.init.normal_(network.outward.weight)
    responses = torch.randn(16, VOXELS, generator=torch.Generator().manual_seed(0)).double()
    slopes = []
    for voxel in range(VOXELS):
        step = torch.zeros(VOXELS, dtype=torch.float64)
        step[voxel] = 1e-5
        with torch.no_grad():
            change = (network(responses + step) - network(responses - step)).mean(0) / 2e-5
        slopes.append(np.linalg.norm(change.numpy() @ basis))
    model = MLP(**around(rng, network=network.float(), basis=basis))
    np.testing.assert_allclose(weight_magnitude(model), slopes, rtol=1e-3)
