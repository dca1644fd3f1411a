"""The discretised mixture of logistics that a VDVAE puts out: likelihood, sample, expectation (Salimans et al. 2017)."""

from __future__ import annotations

import numpy as np
import torch
import torch.nn.functional as F

from recon.images import to_images


def _split_params(params, n_mixtures: int):
    """(n, S, S, 10 m) -> logits (n,S,S,m), means, log-scales, coefficients (n,S,S,3,m); Salimans et al. 2017, PixelCNN++."""
    logits = params[..., :n_mixtures]
    rest = params[..., n_mixtures:].reshape(*params.shape[:3], 3, 3 * n_mixtures)
    means, log_scales, coefficients = rest.split(n_mixtures, dim=-1)
    return logits, means, log_scales.clamp(min=-7.0), coefficients.tanh()


def dmol_log_likelihood(x, params, n_mixtures: int) -> torch.Tensor:
    """Log-likelihood in nats per image of x (n, S, S, 3) in [-1, 1] under the discretised mixture of logistics."""
    logits, means, log_scales, c = _split_params(params, n_mixtures)
    x = x[..., None]
    r, g, b = x[..., 0, :], x[..., 1, :], x[..., 2, :]
    green = means[..., 1, :] + c[..., 0, :] * r
    blue = means[..., 2, :] + c[..., 1, :] * r + c[..., 2, :] * g
    means = torch.stack([means[..., 0, :], green, blue], dim=-2)
    values = torch.stack([r, g, b], dim=-2)
    inverse = (-log_scales).exp()
    upper = inverse * (values - means + 1 / 255)
    lower = inverse * (values - means - 1 / 255)
    middle = inverse * (values - means)
    cdf = upper.sigmoid() - lower.sigmoid()
    density = middle - log_scales - 2 * F.softplus(middle) - np.log(127.5)  # for bins too thin for the difference
    inner = torch.where(cdf > 1e-5, cdf.clamp(min=1e-12).log(), density)
    log_p = torch.where(values < -0.999, F.logsigmoid(upper), torch.where(values > 0.999, -F.softplus(lower), inner))
    return torch.logsumexp(log_p.sum(-2) + logits.log_softmax(-1), dim=-1).sum((1, 2))


def _chain_channels(x, c):
    """Adds the linear dependence of green on red and of blue on both; x, c (..., 3)."""
    r = x[..., 0].clamp(-1, 1)
    g = (x[..., 1] + c[..., 0] * r).clamp(-1, 1)
    b = (x[..., 2] + c[..., 1] * r + c[..., 2] * g).clamp(-1, 1)
    return torch.stack([r, g, b], -1)


def dmol_sample(params, n_mixtures: int, u_mixture, u_logistic) -> np.ndarray:
    """A sample: u_mixture (n, S, S, m) picks the component (Gumbel-max), u_logistic (n, S, S, 3) draws the logistic."""
    logits, means, log_scales, c = _split_params(params, n_mixtures)
    pick = (logits - (-u_mixture.log()).log()).argmax(-1, keepdim=True)[..., None, :].expand(*logits.shape[:3], 3, 1)
    mean, log_scale, c = (t.gather(-1, pick)[..., 0] for t in (means, log_scales, c))
    x = _chain_channels(mean + log_scale.exp() * (u_logistic.log() - (1 - u_logistic).log()), c)
    return to_images(x.movedim(-1, 1))


def dmol_expectation(params, n_mixtures: int) -> torch.Tensor:
    """The mixture's expectation (n, S, S, 3) in [-1, 1], the least-squares image."""
    logits, means, _, c = _split_params(params, n_mixtures)
    each = _chain_channels(means.movedim(-1, -2), c.movedim(-1, -2))  # (n, S, S, m, 3)
    return (each * logits.softmax(-1)[..., None]).sum(-2)


def dmol_mean(params, n_mixtures: int) -> np.ndarray:
    """The expectation as images (n, S, S, 3) uint8: no per-pixel noise, no seed."""
    return to_images(dmol_expectation(params, n_mixtures).movedim(-1, 1))
