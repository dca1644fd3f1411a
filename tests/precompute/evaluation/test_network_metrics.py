"""Networks for the metrics: which layer is read, how weights are found or missed; on stand-ins with random weights."""

import sys
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from precompute.evaluation import network_metrics
from precompute.evaluation.network_metrics import (
    EFFNET_V2,
    FETCH,
    FETCH_CLIP,
    INSTALL,
    NETWORKS,
    layer_output,
    network_inputs,
    open_networks,
)
from precompute.evaluation.protocols import BRAIN_DIFFUSER, MINDEYE, network_pixels
from recon.files import BadFile
from recon.torchvision_guard import why_unusable


def small(**_) -> nn.Module:
    """Something of every architecture's names."""
    torch.manual_seed(1)
    model = nn.Sequential()
    model.features = nn.Sequential(*(nn.Conv2d(3, 3, 3, stride=2 if k < 4 else 1, padding=1) for k in range(12)))
    model.avgpool = nn.AdaptiveAvgPool2d(2)
    model.fc = nn.Linear(12, 5)
    model.forward = lambda x: model.fc(model.avgpool(model.features(x)).flatten(1))
    return model


@pytest.fixture
def torchvision(monkeypatch, tmp_path):
    """A stand-in for the package, and an empty folder of weights."""
    monkeypatch.setattr(network_metrics, "why_unusable", why_unusable.__wrapped__)  # whatever was found before
    names = {network.architecture: small for network in NETWORKS.values()}
    monkeypatch.setitem(sys.modules, "torchvision", SimpleNamespace(models=SimpleNamespace(**names), __spec__=None))
    monkeypatch.setattr(network_metrics, "find_spec", lambda name: True)
    monkeypatch.setattr(network_metrics, "is_installed", lambda: False)
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setenv("RECON_LOCK", str(tmp_path / "lock.json"))
    (tmp_path / "checkpoints").mkdir()


def save(name: str, state: dict) -> None:
    torch.save(state, NETWORKS[name].path)


def test_without_torchvision_or_weights_each_metric_names_its_command(torchvision, monkeypatch):
    assert open_networks() == ({}, dict.fromkeys(NETWORKS, FETCH) | {"clip": FETCH_CLIP, "lite0": INSTALL})
    monkeypatch.setattr(network_metrics, "find_spec", lambda name: None)
    assert open_networks()[1]["swav"] == f"{INSTALL} && {FETCH}"


def test_the_named_layer_is_read_from_the_weights_on_disk(torchvision, rng):
    state = {k: torch.randn_like(v) for k, v in small().state_dict().items()}
    save("alexnet2", state)
    found, absent = open_networks()
    assert set(found) == {"alexnet2", "alexnet5"} and set(absent) == {"inception", "effnet", "swav", "clip", "lite0"}
    images = rng.integers(0, 256, (3, 50, 50, 3), np.uint8)
    model = small()
    model.load_state_dict(state)
    with torch.inference_mode():
        expected = model.features[:5](network_inputs(images)).flatten(1)
    np.testing.assert_allclose(found["alexnet2"](images), expected, rtol=1e-4, atol=1e-5)
    assert found["alexnet2"](images).shape != found["alexnet5"](images[:2]).shape


def test_swavs_file_has_a_prefix_and_no_classifier_and_a_wrong_file_is_refused(torchvision, rng):
    state = small().state_dict()
    body = {f"module.{k}": v for k, v in state.items() if not k.startswith("fc.")}
    save("swav", body | {"module.prototypes.weight": torch.zeros(2, 2)})
    images = rng.integers(0, 256, (2, 20, 20, 3), np.uint8)
    np.testing.assert_allclose(open_networks()[0]["swav"](images), layer_output(small(), "avgpool", images), rtol=1e-4)
    save("swav", {"module.features.0.bias": state["features.0.bias"]})
    with pytest.raises(BadFile, match="lacks features.0.weight"):
        open_networks()
    NETWORKS["swav"].path.write_bytes(b"no weights")
    with pytest.raises(BadFile, match="does not fit resnet50: remove it and run"):
        open_networks()


def test_inputs_are_imagenets_normalised_224_pixels():
    white = network_inputs(np.full((1, 30, 30, 3), 255, np.uint8))
    assert white.shape == (1, 3, 224, 224)
    torch.testing.assert_close(
        white[0, :, 0, 0], (1 - torch.tensor([0.485, 0.456, 0.406])) / torch.tensor([0.229, 0.224, 0.225])
    )


def test_each_protocol_reads_its_own_weights_of_efficientnet_at_its_own_size(torchvision, rng):
    first, second = ({k: torch.randn_like(v) for k, v in small().state_dict().items()} for _ in range(2))
    save("effnet", first)
    torch.save(second, EFFNET_V2.path)
    images = rng.integers(0, 256, (2, 300, 300, 3), np.uint8)
    for protocol, side, state in ((BRAIN_DIFFUSER, 224, first), (MINDEYE, 255, second)):
        model = small()
        model.load_state_dict(state)
        expected = layer_output(
            model, "avgpool", network_pixels(images, protocol, side), partial(network_inputs, side=side)
        )
        np.testing.assert_allclose(open_networks(protocol)[0]["effnet"](images), expected, rtol=1e-4, atol=1e-5)
