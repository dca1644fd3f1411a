"""How pictures are brought to the sizes at which they are compared: our own way, and those of two papers' evaluation scripts.

"brain-diffuser" (Ozcelik & VanRullen 2023, `evaluate_reconstruction.py` and `eval_extract_features.py`): the photographs stay as
they were, 425². Results are resized to 425² by Pillow's bicubic filter; the VDVAE's 64² layouts were saved at 512² before, bicubic
too. Networks see 224², by Pillow's bilinear filter. 982 images.

"mindeye" (Scotti et al. 2023, 2024, `final_evaluations`): everything becomes 256² first, then 425² for PixCorr and SSIM, and each
network's own size for the networks; always bilinear on real numbers, without antialiasing. EfficientNet-B1 has the second
version of its weights. 1,000 images. (MindEye2 keeps photographs at 224² before that; here they come from 425².)
"""

from __future__ import annotations

from dataclasses import asdict, dataclass, field

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from recon.images import area_average

NETWORK_SIDE = 224
LAYOUT = 64  # pixels a side, of the VDVAE's pictures
PHOTOGRAPH = 425  # pixels a side, of NSD's photographs
SAVED_LAYOUT = 512  # pixels a side, of Brain-Diffuser's saved layouts
LOADED = 256  # pixels a side, of all pictures that MindEye compares
MINDEYE_SIDES = {"alexnet2": 256, "alexnet5": 256, "inception": 342, "effnet": 255}
BLOCK = 64  # pictures resized at a time


@dataclass(frozen=True)
class Protocol:
    """At which sizes, in pixels, pictures are compared, and which of EfficientNet-B1's weights are used."""

    name: str
    pixels: int  # of PixCorr and SSIM
    n_images: int | None = None  # the number of test images that it is defined for
    network_sides: dict[str, int] = field(default_factory=dict)  # metric -> side of its network's input, if not 224
    effnet_weights: str = "V1"

    def network_side(self, metric: str) -> int:
        return self.network_sides.get(metric, NETWORK_SIDE)

    def summary(self) -> dict:
        """As an evaluation keeps it; "networks" is one side, or one for each metric that differs from 224."""
        return asdict(self) | {"networks": self.network_sides or NETWORK_SIDE}


BRAIN_DIFFUSER = Protocol("brain-diffuser", PHOTOGRAPH, 982)
MINDEYE = Protocol("mindeye", PHOTOGRAPH, 1000, MINDEYE_SIDES, "V2")
PUBLISHED_PROTOCOLS = {p.name: p for p in (BRAIN_DIFFUSER, MINDEYE)}


def pillow_resized(images: np.ndarray, side: int, method: Image.Resampling) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, side, side, 3) uint8, as Pillow does, antialiased where it shrinks."""
    if images.shape[1] == side:
        return images
    return np.stack([np.asarray(Image.fromarray(image).resize((side, side), method)) for image in images])


def bilinear(images: np.ndarray, side: int, antialias: bool = False) -> np.ndarray:
    """(n, S, S, 3) in 0 to 255 -> (n, side, side, 3) float32, not rounded."""
    if images.shape[1] == side:
        return images.astype(np.float32, copy=False)
    parts = []
    for k in range(0, len(images), BLOCK):
        pixels = torch.tensor(images[k : k + BLOCK]).permute(0, 3, 1, 2).float()
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=antialias)
        parts.append(pixels.permute(0, 2, 3, 1).numpy())
    return np.concatenate(parts)


def resized(images: np.ndarray, side: int) -> np.ndarray:
    """(n, S, S, 3) uint8 -> (n, side, side, 3) uint8: block means where they fit, else bilinear, antialiased."""
    if images.shape[1] == side:
        return images
    if images.shape[1] % side == 0:
        return area_average(images, side)
    return np.rint(bilinear(images, side, antialias=True)).clip(0, 255).astype(np.uint8)


def loaded(images: np.ndarray, protocol: Protocol) -> np.ndarray:
    """(n, S, S, 3) uint8 -> pictures as the protocol's scripts find them, before they are resized for a metric."""
    if protocol.name == MINDEYE.name:
        return bilinear(images, LOADED)
    if protocol.name == BRAIN_DIFFUSER.name and images.shape[1] == LAYOUT:
        return pillow_resized(images, SAVED_LAYOUT, Image.Resampling.BICUBIC)
    return images


def compared_pixels(pictures: np.ndarray, protocol: Protocol) -> np.ndarray:
    """Loaded pictures -> (n, side, side, 3) of which PixCorr and SSIM are computed; in 0 to 255."""
    if protocol.name == MINDEYE.name:
        return bilinear(pictures, protocol.pixels)
    if protocol.name == BRAIN_DIFFUSER.name:
        return pillow_resized(pictures, protocol.pixels, Image.Resampling.BICUBIC)
    return resized(pictures, protocol.pixels)


def network_pixels(pictures: np.ndarray, protocol: Protocol, side: int) -> np.ndarray:
    """Loaded pictures -> (n, side, side, 3) in 0 to 255 that a network sees; our own protocol leaves resizing to the network."""
    if protocol.name == MINDEYE.name:
        return bilinear(pictures, side)
    if protocol.name == BRAIN_DIFFUSER.name:
        return pillow_resized(pictures, side, Image.Resampling.BILINEAR)
    return pictures
