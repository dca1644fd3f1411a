"""How the demo's decoders are trained: resumable to the bit, started where their docstrings say."""

import json
import math

import numpy as np
import pytest
import torch
from safetensors.torch import load_file
from sklearn.decomposition import PCA
from torch import nn
from transformers import CLIPModel

from precompute.demo.train_clip import (
    ClipSize,
    Groups,
    clip_config,
    contrastive_loss,
    image_features,
    mirrored,
    text_features,
    train_tokenizer,
    train_vision,
)
from precompute.demo.train_codec import CodecSize, PatchComponents, make_autoencoder, start_encoder
from precompute.demo.train_lcm import _clean_and_noise
from precompute.demo.train_unet import BLENDED, LARGEST, MEAN, Examples
from precompute.demo.training import Schedule, step_rng, train
from precompute.fitting.clip import pixel_values, tokens
from recon.images import to_pixels

CAPTIONS = ["a red cat on the left, at sea", "a boat on the right at night", "the cat is blue, in the middle"]


class Stopped(Exception):
    pass


def test_a_run_that_was_stopped_and_resumed_agrees_with_one_that_was_not(tmp_path):
    schedule = Schedule(steps=8, learning_rate=0.1, batch=4, save_every=3)

    def run(checkpoint, stop_at=None):
        torch.manual_seed(0)
        model = nn.Linear(3, 2)

        def loss(step):
            if step == stop_at:
                raise Stopped
            return {"loss": (model(torch.randn(4, 3)) - 1).square().mean()}

        return train(model, loss, checkpoint, schedule, seed=5)

    straight, report = run(tmp_path / "a.pt")
    with pytest.raises(Stopped):
        run(tmp_path / "b.pt", stop_at=4)
    resumed, again = run(tmp_path / "b.pt")
    assert torch.equal(straight.weight, resumed.weight) and torch.equal(straight.bias, resumed.bias)
    assert report["steps"] == again["steps"] == 8


def test_a_step_with_an_exploding_gradient_is_left_out(tmp_path):
    model = nn.Linear(1, 1, bias=False)
    before = model.weight.detach().clone()

    def loss(step):
        return {"loss": 1e6 * model.weight.sum()}

    result, report = train(model, loss, tmp_path / "c.pt", Schedule(3, 0.1, 1, skip_norm=10.0), seed=0)
    assert report["skipped_steps"] == 3 and torch.equal(result.weight, before)


def test_learning_rate_warms_up_and_ends_at_zero():
    schedule = Schedule(steps=1000, learning_rate=2.0, batch=1)
    rates = [schedule.rate(k) for k in range(1000)]
    assert rates[0] == pytest.approx(0.02, rel=1e-3) and max(rates) < 2 and rates[-1] < 1e-4
    assert rates[500] == pytest.approx(1.0)


def test_the_autoencoder_starts_as_the_principal_components_of_patches():
    rng = np.random.default_rng(0)
    directions = np.linalg.qr(rng.normal(size=(192, 4)))[0].T
    patches = (
        rng.normal(size=(40, 4, 4, 4)) * [500, 300, 180, 100] @ directions + rng.normal(size=(40, 4, 4, 192)) + 120
    )
    images = patches.reshape(40, 4, 4, 8, 8, 3).swapaxes(2, 3).reshape(40, 32, 32, 3).clip(0, 255).astype(np.uint8)
    patches = images.reshape(40, 4, 8, 4, 8, 3).swapaxes(2, 3).reshape(-1, 192) / 127.5 - 1
    expected = PCA(4, whiten=True).fit_transform(patches)
    model = make_autoencoder(CodecSize(channels=48, latents=4, decoder_blocks=(0, 0, 0, 0)))
    start_encoder(model, PatchComponents.fit(images, 4))
    with torch.no_grad():
        z = model.encoder(to_pixels(images))
    z = z.permute(0, 2, 3, 1).reshape(-1, 4).numpy()
    for k in range(4):  # equal up to sign, scale and offset
        assert abs(np.corrcoef(z[:, k], expected[:, k])[0, 1]) > 0.9999


def test_compressed_components_have_unit_variance():
    images = np.random.default_rng(1).integers(0, 256, (20, 16, 16, 3), np.uint8)
    components = PatchComponents.fit(images, 5)
    z = components(to_pixels(images))
    assert z.shape == (20, 5, 2, 2)
    np.testing.assert_allclose(z.std((0, 2, 3)), 1, atol=0.02)


def test_mirrored_captions_swap_left_and_right_and_nothing_else():
    tokenizer = train_tokenizer(CAPTIONS * 3)
    ids = tokens(tokenizer, CAPTIONS)
    swapped = mirrored(tokenizer, ids)
    words = [tokenizer.decode(row, skip_special_tokens=True) for row in swapped]
    assert "right" in words[0] and "left" not in words[0] and "left" in words[1] and "right" not in words[1]
    assert torch.equal(swapped[2], ids[2]) and torch.equal(mirrored(tokenizer, swapped), ids)


def test_the_tokenizer_is_the_same_every_time_though_pairs_of_letters_are_as_frequent():
    words = [f"{a}{b}{a} {b}{a}{b}" for a in "abcdefgh" for b in "ijklmnop"]  # ties everywhere
    first, *others = (train_tokenizer(words).backend_tokenizer.to_str() for _ in range(4))
    assert others == [first] * 3


def test_text_of_other_letters_is_spelled_and_nothing_of_it_lost():
    tokenizer = train_tokenizer(CAPTIONS * 3)
    ids = tokenizer("Zebra & 7 ñandúes")["input_ids"]
    assert tokenizer.unk_token_id not in ids[1:-1]
    assert tokenizer.decode(ids, skip_special_tokens=True).replace(" ", "") == "zebra&7ñandúes"


def test_contrastive_loss_is_its_closed_form_on_orthogonal_pairs():
    rows = torch.eye(5) * 3
    expected = math.log(1 + 4 * math.exp(-2.0))
    assert contrastive_loss(rows, rows, torch.tensor(2.0)).item() == pytest.approx(expected, rel=1e-4)


def test_hard_batches_hold_few_settings_and_lights():
    labels = [{"setting": f"s{k % 5}", "light": f"l{k % 2}"} for k in range(1000)]
    rows = Groups(labels).draw(128, np.random.default_rng(0))
    assert len(rows) == len(set(rows.tolist())) == 128
    assert len({(labels[k]["setting"], labels[k]["light"]) for k in rows}) == 4


def test_the_locked_phase_finds_the_captions_and_leaves_the_text_encoder_alone(tmp_path):
    tokenizer = train_tokenizer(CAPTIONS * 3)
    size = ClipSize(
        text_width=32, text_layers=1, vision_width=32, vision_layers=1, patch=16, head_width=16, embedding=16
    )
    torch.manual_seed(0)
    model = CLIPModel(clip_config(tokenizer, size, 32))
    images = np.zeros((3, 32, 32, 3), np.uint8)  # each its own mirror image
    images[0], images[1, :16] = 200, 200
    ids = tokens(tokenizer, CAPTIONS)[:, None].expand(-1, 5, -1)
    with torch.no_grad():
        texts = torch.stack([text_features(model, v.flatten(0, 1)) for v in (ids, mirrored(tokenizer, ids))])
    texts = texts.unflatten(1, ids.shape[:2])
    before = {k: v.clone() for k, v in model.state_dict().items()}
    schedule = Schedule(60, 3e-3, 3, average=0.5)
    model, report = train_vision(model, images, texts, tmp_path / "c.pt", schedule, seed=0)
    with torch.no_grad():
        found = (image_features(model, pixel_values(images)) @ texts[0, :, 0].T).argmax(1)
    assert found.tolist() == [0, 1, 2]
    changed = {k.split(".")[0] for k, v in model.state_dict().items() if not torch.equal(v, before[k])}
    assert changed == {"vision_model", "visual_projection"}


def test_v_prediction_gives_back_clean_latents_and_noise():
    clean, noise = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    alpha = torch.tensor([0.9, 0.1])
    a, s = alpha.sqrt()[:, None, None, None], (1 - alpha).sqrt()[:, None, None, None]
    x, v = a * clean + s * noise, a * noise - s * clean
    for got, expected in zip(_clean_and_noise(v, x, alpha), (clean, noise)):
        torch.testing.assert_close(got, expected)


def test_the_shipped_lora_is_whole_and_changes_the_unet(request):
    folder = request.config.rootpath / "assets" / "demo"
    tensors = load_file(folder / "lcm_lora.safetensors")
    assert all(key.startswith("unet.") and key.endswith((".lora_A.weight", ".lora_B.weight")) for key in tensors)
    assert all(v.any() for v in tensors.values())
    report = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["reports"]["samples"]
    assert report["true pictures"]["object"] > 0.95


# --- what the UNet learns from ---------------------------------------------------------------------------------------


@pytest.fixture
def examples():
    """Of 64 images; caption c of image r, mirrored or not, is embedded as the unit vector of its number."""
    n = 64
    numbers = torch.arange(2 * n * 5).reshape(2, n, 5, 1)
    codes = torch.arange(2.0 * n).reshape(2, n, 1, 1, 1)
    return Examples(codes, numbers, lambda ids: torch.eye(2 * n * 5)[ids], torch.zeros(1, 2 * n * 5))


def test_prompts_are_one_caption_the_mean_of_five_or_a_blend_in_which_the_images_own_prevail(examples):
    kinds = {"one": 0, "mean": 0, "blend": 0}
    for step in range(40):
        codes, prompts = examples.draw(48, step_rng(0, step))
        parts = prompts[:, 0].unflatten(1, (-1, 5))  # (48, image or its mirror, caption)
        own = parts[torch.arange(48), codes.flatten().long()]  # (48, 5)
        assert torch.allclose(prompts.sum((1, 2)), torch.ones(48))
        share = own.sum(1)
        assert (share >= 1 - LARGEST - 1e-6).all()
        for row, of_own in zip(own, share):
            alike = torch.allclose(row, row.mean().expand(5))
            kind = "blend" if of_own < 1 - 1e-6 else "mean" if alike else "one"
            assert alike or kind == "one" and row.max() == 1
            kinds[kind] += 1
    n = sum(kinds.values())
    assert kinds["mean"] / n == pytest.approx(MEAN, abs=0.04) and kinds["blend"] / n == pytest.approx(BLENDED, abs=0.04)


def test_half_of_the_examples_are_mirrored_and_none_is_drawn_twice_in_a_batch(examples):
    mirrored_rows = []
    for step in range(40):
        codes, _ = examples.draw(48, step_rng(1, step))
        numbers = codes.flatten().long() % 64
        assert len(set(numbers.tolist())) == 48
        mirrored_rows += (codes.flatten() >= 64).tolist()
    assert np.mean(mirrored_rows) == pytest.approx(0.5, abs=0.05)
