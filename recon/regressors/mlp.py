"""Prediction by a network with one hidden layer beside a linear path, and a fixed basis.

a = A x + C gelu(norm(B x)),   targets = a · basis + intercept
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import nn

from recon.files import parsing, read_tensors, save_tensors
from recon.regressors.standardise import (
    Rescaler,
    Standardiser,
    check_components,
    statistics_from_tensors,
    statistics_to_tensors,
)

FORMAT = "recon-mlp-1"


class Network(nn.Module):
    """A hidden layer of `hidden` units beside a linear path from voxels to outputs; `plain`: without the linear path."""

    def __init__(
        self, n_voxels: int, n_out: int, hidden: int, plain: bool = False, dropout: tuple[float, float] = (0.0, 0.0)
    ):
        super().__init__()
        self.linear = None if plain else nn.Linear(n_voxels, n_out)
        self.inward = nn.Linear(n_voxels, hidden)
        self.norm = nn.LayerNorm(hidden)
        self.activation = nn.ReLU() if plain else nn.GELU()
        self.outward = nn.Linear(hidden, n_out)
        self.input_dropout, self.hidden_dropout = map(nn.Dropout, dropout)
        if self.linear is not None:
            nn.init.zeros_(self.linear.weight)
            nn.init.zeros_(self.outward.weight)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        x = self.input_dropout(x)
        out = self.outward(self.hidden_dropout(self.activation(self.norm(self.inward(x)))))
        return out if self.linear is None else self.linear(x) + out

    @property
    def last_layers(self) -> list[nn.Linear]:
        """Their sum is what comes out."""
        return [self.outward] if self.linear is None else [self.linear, self.outward]


def predict(network: Network, X: np.ndarray) -> np.ndarray:
    """X (n, n_voxels), standardised -> (n, n_out), without dropout."""
    network.eval()
    with torch.inference_mode():
        return network(torch.as_tensor(X, device=network.outward.weight.device)).cpu().numpy()


@dataclass(frozen=True)
class MLP:
    """A fitted network with its fixed basis.

    Components are ordered: the first k of them are the best rank-k model of the predictions for training images.
    """

    standardise: Standardiser
    network: Network
    basis: np.ndarray  # (r, n_targets) float32, orthonormal rows
    intercept: np.ndarray  # (n_targets,) float32
    rescale: Rescaler

    @property
    def n_components(self) -> int:
        return len(self.basis)

    def coefficients(self, X: np.ndarray) -> np.ndarray:
        """(n, n_voxels) betas -> (n, r)."""
        return predict(self.network, self.standardise(X))

    def predict(self, X: np.ndarray, components: int | None = None) -> np.ndarray:
        """(n, n_voxels) betas -> (n, n_targets) least-squares predictions, before any rescaling, by the first components.

        `components`: 1 to r, all if None. Raises ValueError for others, and for voxels that do not fit.
        """
        k = check_components(components, len(self.basis))
        return self.coefficients(X)[:, :k] @ self.basis[:k] + self.intercept

    def save(self, path: Path) -> None:
        """Weights in float16, statistics in float32."""
        tensors = {f"network.{k}": v.numpy().astype(np.float16) for k, v in self.network.state_dict().items()}
        tensors |= {"basis": self.basis.astype(np.float16), "intercept": self.intercept}
        tensors |= statistics_to_tensors(self.standardise, self.rescale)
        save_tensors(path, tensors, {"format": FORMAT})

    @classmethod
    def load(cls, path: Path) -> MLP:
        """Raises BadFile if the file is missing, truncated or holds something else."""
        t, _ = read_tensors(path, FORMAT)
        with parsing(path):
            state = {
                k.removeprefix("network."): torch.tensor(v).float() for k, v in t.items() if k.startswith("network.")
            }
            hidden, n_voxels = state["inward.weight"].shape
            network = Network(n_voxels, len(state["outward.weight"]), hidden, plain="linear.weight" not in state)
            network.load_state_dict(state)
            standardise, rescale = statistics_from_tensors(t)
            return cls(standardise, network, t["basis"].astype(np.float32), t["intercept"], rescale)
