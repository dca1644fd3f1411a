"""What a picture shows, as a machine sees it: a small convolutional network that names object, colour, setting and light.

It judges samples of the generator: does a picture made from "a red boat at the docks at night" show a boat, red, a harbour, night?
It is trained on training scenes, never on the generator's pictures.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from precompute.demo.brush import LIGHTS
from precompute.demo.objects import COLOURS, OBJECTS
from precompute.demo.places import SETTINGS
from precompute.demo.training import Schedule, Weights, draw_rows, shifted, step_rng, train
from recon.files import load_json, open_array, whole_file
from recon.images import area_average, to_pixels

ATTRIBUTES = {"object": list(OBJECTS), "colour": list(COLOURS), "setting": list(SETTINGS), "light": list(LIGHTS)}
SIDE, SHIFT, BLUR = 64, 4, 0.5  # pixels; pixels; share of the pictures that are blurred a little, as generated ones are


class Checker(nn.Module):
    """(n, 3, 64, 64) in [-1, 1] -> logits of every attribute."""

    def __init__(self, width: int = 32):
        super().__init__()
        layers, channels = [nn.Conv2d(3, width, 5, padding=2), nn.BatchNorm2d(width), nn.ReLU(), nn.MaxPool2d(2)], width
        for wider in (2 * width, 3 * width, 4 * width):
            layers += [nn.Conv2d(channels, wider, 3, padding=1), nn.BatchNorm2d(wider), nn.ReLU(), nn.MaxPool2d(2)]
            channels = wider
        self.features = nn.Sequential(*layers, nn.Flatten(), nn.Dropout(0.3), nn.Linear(channels * 16, 96), nn.ReLU())
        self.heads = nn.ModuleDict({name: nn.Linear(96, len(values)) for name, values in ATTRIBUTES.items()})

    def forward(self, pixels: Tensor) -> dict[str, Tensor]:
        features = self.features(pixels)
        return {name: head(features) for name, head in self.heads.items()}

    def accuracy(self, images: np.ndarray, labels: list[dict]) -> dict[str, float]:
        """Share of (n, S, S, 3) uint8 pictures in which each attribute is found as `labels` say."""
        return {name: float(values.mean()) for name, values in self.right(images, labels).items()}

    @torch.inference_mode()
    def right(self, images: np.ndarray, labels: list[dict], batch: int = 100) -> dict[str, np.ndarray]:
        """Whether each attribute of (n, S, S, 3) uint8 pictures is found as `labels` say: (n,) bool."""
        right = {name: [] for name in ATTRIBUTES}
        for k in range(0, len(images), batch):
            logits = self(to_pixels(area_average(images[k : k + batch], SIDE)))
            for name, values in ATTRIBUTES.items():
                found = logits[name].argmax(1).tolist()
                right[name] += [values[f] == e[name] for f, e in zip(found, labels[k : k + batch])]
        return {name: np.array(values) for name, values in right.items()}

    @classmethod
    def load(cls, path: Path) -> Checker:
        model = cls()
        model.load_state_dict(load_file(path))
        return model.eval()


def _varied(pixels: Tensor, rng: np.random.Generator) -> Tensor:
    """Half mirrored, all shifted, some blurred."""
    if rng.random() < 0.5:
        pixels = pixels.flip(3)
    pixels = shifted(pixels, SHIFT, rng)
    return F.avg_pool2d(pixels, 3, 1, 1, count_include_pad=False) if rng.random() < BLUR else pixels


def train_checker(scenes: Path, weights: Weights, schedule: Schedule, seed: int) -> dict:
    """`scenes` holds 64-pixel images and labels. Saves the weights (safetensors); the report has their accuracy on test scenes."""
    images, labels = np.asarray(open_array(scenes / f"train_{SIDE}.npy")), load_json(scenes / "train.json")
    wanted = {name: torch.tensor([v.index(e[name]) for e in labels]) for name, v in ATTRIBUTES.items()}
    torch.manual_seed(seed)
    model = Checker()

    def loss(step: int) -> dict[str, Tensor]:
        rng = step_rng(seed, step)
        rows = draw_rows(len(images), schedule.batch, rng)
        logits = model(_varied(to_pixels(images[rows]), rng))
        parts = {name: F.cross_entropy(logits[name], wanted[name][rows], label_smoothing=0.05) for name in ATTRIBUTES}
        return {"loss": sum(parts.values()), "object": parts["object"]}

    best, report = train(model, loss, weights.checkpoint(), schedule, seed)
    with whole_file(weights.out) as part:
        halved = {k: v.half() if v.is_floating_point() else v for k, v in best.state_dict().items()}
        save_file(halved, part)
    test = np.asarray(open_array(scenes / f"test_{SIDE}.npy"))
    found = Checker.load(weights.out).accuracy(test, load_json(scenes / "test.json"))
    return report | {"held_out_accuracy": found}
