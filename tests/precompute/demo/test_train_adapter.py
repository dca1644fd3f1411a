"""The demo's image adapter: it begins as nothing, learns what the prompt does not tell, and is saved as published ones are."""

import numpy as np
import pytest
import torch
from diffusers import UNet2DConditionModel
from safetensors.torch import load_file
from tiny_diffusion import SIDE, TOKENS, WIDTH, tiny_pipeline

from precompute.demo.add_adapter import join
from precompute.demo.taken import PARTS
from precompute.demo.train_adapter import blended, left_out, new_adapter, train_adapter
from precompute.demo.train_unet import Examples, Sources
from precompute.demo.training import Schedule, Weights
from recon.bundle.manifest import ADAPTER
from recon.decoders.ip_adapter import adapter_shapes, attach, image_condition, load_adapter
from recon.files import load_json, save_json

N, D = 6, 5


@pytest.fixture
def unet(tmp_path):
    pipe = tiny_pipeline()
    pipe.unet.save_pretrained(tmp_path / "unet")
    pipe.scheduler.save_pretrained(tmp_path / "unet")
    return tmp_path / "unet"


@pytest.fixture
def examples(rng):
    """Six images of one colour each; the prompt is the same for all."""
    codes = np.broadcast_to(2 * rng.normal(size=(1, N, 4, 1, 1)), (2, N, 4, SIDE, SIDE)).astype(np.float16)
    ids = torch.zeros(2, N, 5, 1, dtype=torch.long)
    return Examples(
        torch.tensor(codes), ids, lambda some: torch.zeros(len(some), TOKENS, WIDTH), torch.zeros(TOKENS, WIDTH)
    )


@pytest.fixture
def embeddings(rng, tmp_path):
    one = 3 + rng.normal(size=(1, N, D))
    np.save(tmp_path / "embeddings.npy", np.concatenate([one, one]).astype(np.float16))
    return tmp_path / "embeddings.npy"


def predict(unet, image, prompt=None):
    x = torch.randn(len(image), 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    prompt = torch.zeros(len(image), TOKENS, WIDTH) if prompt is None else prompt
    with torch.no_grad():
        return unet(x, torch.tensor(700), prompt, added_cond_kwargs=image_condition(image)).sample


def test_a_new_adapter_changes_nothing(unet, rng):
    plain, adapted = (UNet2DConditionModel.from_pretrained(unet) for _ in range(2))
    image = torch.tensor(rng.normal(size=(N, D)), dtype=torch.float32)
    attach(adapted, new_adapter(adapted, image))
    x, prompt = torch.randn(N, 4, SIDE, SIDE), torch.randn(N, TOKENS, WIDTH)
    with torch.no_grad():
        expected = plain(x, torch.tensor(700), prompt).sample
        got = adapted(x, torch.tensor(700), prompt, added_cond_kwargs=image_condition(image)).sample
    torch.testing.assert_close(got, expected)


def test_the_adapter_learns_what_the_prompt_does_not_tell_and_the_unet_stays(
    unet, examples, embeddings, tmp_path, monkeypatch
):
    monkeypatch.setattr(Examples, "load", lambda files: examples)
    schedule = Schedule(150, 2e-2, N, weight_decay=0.0, average=0.9)
    files, weights = Sources(None, None, None, embeddings), Weights(tmp_path / "ip_adapter.safetensors", tmp_path)
    report = train_adapter(files, unet, weights, schedule, 0)
    before = UNet2DConditionModel.from_pretrained(unet).state_dict()
    model = UNet2DConditionModel.from_pretrained(unet)
    load_adapter(model, tmp_path / "ip_adapter.safetensors")
    after = model.state_dict()
    assert all(torch.equal(after[name], value) for name, value in before.items())
    seen = torch.tensor(np.load(embeddings)[0]).float()
    right, wrong = predict(model, seen), predict(model, seen.roll(1, 0))
    clean, scheduler = examples.codes[0].float(), tiny_pipeline().scheduler
    x = torch.randn(N, 4, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    t = torch.full((N,), 700)
    alpha = scheduler.alphas_cumprod[t][:, None, None, None]
    wanted = (alpha.sqrt() * x - clean) / (1 - alpha).sqrt()  # v, of x = sqrt(a) clean + sqrt(1 - a) noise
    assert (right - wanted).square().mean() < 0.8 * (wrong - wanted).square().mean()
    shapes = adapter_shapes(model, D)
    assert report["parameters"] == sum(int(np.prod(shape)) for shape in shapes.values())
    saved = load_file(tmp_path / "ip_adapter.safetensors")
    assert {name: tuple(value.shape) for name, value in saved.items()} == shapes


def test_text_and_image_are_left_out_apart_and_together(rng):
    text, image = (rows.numpy() for rows in left_out(40_000, rng, torch.device("cpu")))
    shares = [(text & ~image).mean(), (image & ~text).mean(), (text & image).mean()]
    assert np.allclose(shares, [0.4, 0.05, 0.05], atol=0.01)


def test_a_quarter_of_the_embeddings_has_less_than_half_of_another(rng):
    eye = torch.eye(400)
    mixed = blended(eye, rng)
    own = mixed.diagonal()
    assert 0.15 < (own < 1).float().mean() < 0.35
    assert own.min() > 0.5
    torch.testing.assert_close(mixed.sum(1), torch.ones(400))


def test_an_adapter_is_put_beside_copies_of_the_networks_and_into_their_provenance(tmp_path):
    networks, out = tmp_path / "networks", tmp_path / "out"
    for name in PARTS:
        place = networks / name if "." in name else networks / name / "part"
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(name)
    before = {"stages": {"UNet": {"seconds": 1.0}}, "reports": {"unet.training": {"loss": 1}}, "settings": {"seed": 0}}
    save_json(networks / "provenance.json", before)
    (tmp_path / "new").write_text("adapter")
    join(networks, tmp_path / "new", out, {"cost": {"seconds": 2.0}, "report": {"loss": 0.5}}, Schedule(5, 1e-3, 2))
    assert {p.name for p in out.iterdir()} == {*PARTS, ADAPTER, "provenance.json"}
    assert (out / ADAPTER).read_text() == "adapter" and (out / "vision" / "part").read_text() == "vision"
    told = load_json(out / "provenance.json")
    assert told["stages"] == before["stages"] | {"image adapter": {"seconds": 2.0}}
    assert (
        told["reports"]["ip_adapter.training"] == {"loss": 0.5} and told["settings"]["adapter_schedule"]["steps"] == 5
    )
    assert load_json(networks / "provenance.json") == before and not (networks / ADAPTER).exists()
