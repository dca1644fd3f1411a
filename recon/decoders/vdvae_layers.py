"""The networks of the Very Deep VAE (Child 2021), and how one layer of its decoder is run fast.

Parameter names are OpenAI's. Training and encoding call the blocks as the paper draws them; decoding calls `DecBlock.run`, the
same arithmetic with sums taken in place.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn


@dataclass(frozen=True)
class VDVAEConfig:
    """Architecture and input scaling. `custom_widths` maps a resolution to its channels where it is not `width`.

    `mean` and `std` scale uint8 pixels on the way in: (pixel - mean) / std. `upsampling` says how coarse features are enlarged
    before they are mixed into finer ones: "nearest" or "bilinear". The defaults are ImageNet-64's.
    """

    enc_blocks: str = "64x11,64d2,32x20,32d2,16x9,16d2,8x8,8d2,4x7,4d4,1x5"
    dec_blocks: str = "1x2,4m1,4x3,8m4,8x7,16m8,16x15,32m16,32x31,64m32,64x12"
    width: int = 512
    custom_widths: dict[int, int] = field(default_factory=dict)
    zdim: int = 16
    bottleneck: float = 0.25
    n_mixtures: int = 10
    image_size: int = 64
    no_bias_above: int = 64
    mean: float = 115.92961967
    std: float = 69.37404
    upsampling: str = "nearest"

    def width_at(self, resolution: int) -> int:
        return self.custom_widths.get(resolution, self.width)


def parse_blocks(text: str) -> list[tuple[int, int | None, int | None]]:
    """'64x2,64d2,4m1' -> one (resolution, down_rate, mixin) per block.

    `RxN` is N blocks at resolution R, `RdK` one block that halves (K = 2) or divides by K, `RmS` one block that first
    mixes in the features of resolution S, upsampled. Raises ValueError on anything else.
    """
    blocks = []
    for token in text.split(","):
        for sign in "xdm":
            resolution, found, number = token.partition(sign)
            if found and resolution.isdigit() and number.isdigit():
                break
        else:
            raise ValueError(f"VDVAE block strings hold tokens such as '64x11', '64d2' or '4m1'; got {token!r}")
        r, k = int(resolution), int(number)
        blocks += {"x": [(r, None, None)] * k, "d": [(r, k, None)], "m": [(r, None, k)]}[sign]
    return blocks


class Block(nn.Module):
    """GELU-conv ×4 bottleneck: 1×1, 3×3, 3×3, 1×1 (all 1×1 at resolutions 1 and 2)."""

    def __init__(self, n_in, n_middle, n_out, resolution, down_rate=None, residual=False):
        super().__init__()
        self.down_rate, self.residual = down_rate, residual
        k, p = (3, 1) if resolution > 2 else (1, 0)
        self.c1 = nn.Conv2d(n_in, n_middle, 1)
        self.c2 = nn.Conv2d(n_middle, n_middle, k, padding=p)
        self.c3 = nn.Conv2d(n_middle, n_middle, k, padding=p)
        self.c4 = nn.Conv2d(n_middle, n_out, 1)

    def hidden(self, x):
        """All but the last convolution."""
        h = F.gelu(x)
        for conv in (self.c1, self.c2, self.c3):
            h = conv(h)
            h = F.gelu(h) if h.requires_grad else torch.ops.aten.gelu_(h)  # in place: memory is what is slow
        return h

    def forward(self, x):
        h = self.c4(self.hidden(x))
        h = x + h if self.residual else h
        return F.avg_pool2d(h, self.down_rate) if self.down_rate else h


def _fit_channels(x, n):
    """Zero-pads or cuts the channel axis of (B, C, H, W) to n."""
    return x[:, :n] if x.shape[1] >= n else F.pad(x, (0, 0, 0, 0, 0, n - x.shape[1]))


class Encoder(nn.Module):
    def __init__(self, cfg: VDVAEConfig):
        super().__init__()
        self.cfg = cfg
        self.in_conv = nn.Conv2d(3, cfg.width_at(cfg.image_size), 3, padding=1)
        blocks = []
        for resolution, down_rate, _ in parse_blocks(cfg.enc_blocks):
            width = cfg.width_at(resolution)
            blocks.append(Block(width, int(width * cfg.bottleneck), width, resolution, down_rate, residual=True))
        for block in blocks:
            block.c4.weight.data *= len(blocks) ** -0.5
        self.enc_blocks = nn.ModuleList(blocks)

    def forward(self, x):
        """(B, 3, S, S) scaled pixels -> {resolution: features of the last block at that resolution}."""
        x = self.in_conv(x)
        features = {x.shape[2]: x}
        for block in self.enc_blocks:
            x = block(x)
            x = _fit_channels(x, self.cfg.width_at(x.shape[2]))
            features[x.shape[2]] = x
        return features


@dataclass(frozen=True)
class Layer:
    """One stochastic layer of some pictures: posterior means or samples (B, zdim, h, w), KL(posterior ‖ prior) (B,) in nats."""

    z: torch.Tensor
    kl: torch.Tensor


class DecBlock(nn.Module):
    def __init__(self, cfg: VDVAEConfig, resolution: int, mixin: int | None, n_blocks: int):
        super().__init__()
        self.resolution, self.mixin, self.zdim, self.upsampling = resolution, mixin, cfg.zdim, cfg.upsampling
        self.width = cfg.width_at(resolution)
        middle = int(self.width * cfg.bottleneck)
        self.enc = Block(2 * self.width, middle, 2 * cfg.zdim, resolution)
        self.prior = Block(self.width, middle, 2 * cfg.zdim + self.width, resolution)
        self.z_proj = nn.Conv2d(cfg.zdim, self.width, 1)
        self.resnet = Block(self.width, middle, self.width, resolution, residual=True)
        nn.init.zeros_(self.prior.c4.weight)
        nn.init.zeros_(self.prior.c4.bias)
        for conv in (self.z_proj, self.resnet.c4):
            conv.weight.data *= n_blocks**-0.5

    def upsampled(self, state):
        """What the mixin adds to the features of this block's resolution; 0 if it has none."""
        if self.mixin is None:
            return 0
        coarse = _fit_channels(state[self.mixin], self.width)
        return F.interpolate(coarse, scale_factor=self.resolution // self.mixin, mode=self.upsampling)

    def enter(self, state):
        """The features this block starts from."""
        return state[self.resolution] + self.upsampled(state)

    def prior_of(self, x):
        mean, logsd, residual = self.prior(x).split([self.zdim, self.zdim, self.width], dim=1)
        return mean, logsd, x + residual

    def posterior_of(self, x, features):
        return self.enc(torch.cat([x, features], dim=1)).chunk(2, dim=1)

    def leave(self, x, z, state):
        """Adds the latent, runs the residual block; returns a new state (the old one stays valid)."""
        return state | {self.resolution: self.resnet(x + self.z_proj(z))}

    def run(self, state, choose: Callable[[Tensor, Tensor], Tensor]) -> None:
        """enter, prior_of and leave for decoding: changes the features in `state` in place.

        They are float32 whatever the weights are: 75 sums in bfloat16 lose a grey level. choose(mean, logsd) of the prior,
        (B, zdim, h, w) both, returns the latent. Needs inference mode.
        """
        x, last, n = state[self.resolution], self.prior.c4, 2 * self.zdim
        if self.mixin is not None:
            x += self.upsampled(state)
        assert last.bias is not None  # torch's layers may lack one
        h = self.prior.hidden(x.to(last.weight.dtype))
        z = choose(*F.conv2d(h, last.weight[:n], last.bias[:n]).chunk(2, dim=1))
        x += F.conv2d(h, last.weight[n:], last.bias[n:])
        x += self.z_proj(z)
        x += self.resnet.c4(self.resnet.hidden(x.to(last.weight.dtype)))


def gaussian_kl(mean_q, logsd_q, mean_p, logsd_p):
    """KL(q ‖ p) of diagonal Gaussians, element-wise, nats."""
    return logsd_p - logsd_q - 0.5 + 0.5 * (logsd_q.exp() ** 2 + (mean_q - mean_p) ** 2) / logsd_p.exp() ** 2


class OutNet(nn.Module):
    def __init__(self, cfg: VDVAEConfig):
        super().__init__()
        self.out_conv = nn.Conv2d(cfg.width_at(cfg.image_size), cfg.n_mixtures * 10, 1)

    def forward(self, x):
        return self.out_conv(x)


class Decoder(nn.Module):
    def __init__(self, cfg: VDVAEConfig):
        super().__init__()
        blocks = parse_blocks(cfg.dec_blocks)
        self.dec_blocks = nn.ModuleList([DecBlock(cfg, r, mixin, len(blocks)) for r, _, mixin in blocks])
        self.resolutions = sorted({r for r, _, _ in blocks})
        self.widths = {r: cfg.width_at(r) for r in self.resolutions}
        with_bias = [r for r in self.resolutions if r <= cfg.no_bias_above]
        self.bias_xs = nn.ParameterList([nn.Parameter(torch.zeros(1, self.widths[r], r, r)) for r in with_bias])
        self.out_net = OutNet(cfg)
        width = cfg.width_at(cfg.image_size)
        self.gain = nn.Parameter(torch.ones(1, width, 1, 1))
        self.bias = nn.Parameter(torch.zeros(1, width, 1, 1))

    def start(self, batch: int):
        """Initial features: the learnt bias of each resolution, zeros above `no_bias_above`."""
        state = {b.shape[2]: b.expand(batch, -1, -1, -1) for b in self.bias_xs}
        for r in self.resolutions:
            if r not in state:
                state[r] = self.gain.new_zeros(batch, self.widths[r], r, r)
        return state

    def finish(self, state):
        """Features of the finest resolution -> mixture parameters (B, 10 n_mixtures, S, S)."""
        x = state[self.resolutions[-1]] * self.gain + self.bias
        return self.out_net(x.to(self.gain.dtype))
