"""The VDVAE against the original implementation's numbers, and the contract of its latents."""

import json

import numpy as np
import pytest
import torch
from conftest import DATA
from safetensors.torch import load_file

from recon.decoders.dmol import dmol_log_likelihood, dmol_mean, dmol_sample
from recon.decoders.vdvae import VDVAE, load_openai
from recon.decoders.vdvae_layers import VDVAEConfig, gaussian_kl, parse_blocks
from recon.files import BadFile
from recon.recipes import Drawing


@pytest.fixture(scope="module")
def original():
    model = VDVAE(VDVAEConfig(width=32))
    model.load_state_dict(load_file(DATA / "vdvae_width32.safetensors"))
    return model.eval(), np.load(DATA / "vdvae_width32_reference.npz", allow_pickle=False)


def close(ours, reference):
    return np.abs(np.asarray(ours) - reference).max() <= 1e-4 * np.abs(reference).max()


def test_posterior_means_of_31_layers_are_the_originals(original):
    model, reference = original
    assert close(model.encode(reference["images"], 31), reference["latents31"])


def test_kl_and_output_parameters_of_all_75_layers_are_the_originals(original):
    model, reference = original
    with torch.inference_mode():
        layers, state = model.infer(model.scale_pixels(reference["images"]))
        params = model.decoder.finish(state).permute(0, 2, 3, 1)
    assert close(torch.stack([layer.kl for layer in layers], 1), reference["kl_per_layer"])
    assert close(params[:, ::4, ::4], reference["dmol_params_all_layers"])


def test_decoding_31_layers_with_prior_means_gives_the_originals_parameters(original):
    model, reference = original
    assert close(model.output_params(reference["latents31"])[:, ::4, ::4], reference["dmol_params_31"])


def test_mixture_sample_with_the_same_uniforms_is_the_originals_picture(original):
    model, reference = original
    g = np.random.default_rng(int(reference["sample_u_mixture_seed"]))
    u1, u2 = (torch.tensor(g.uniform(1e-5, 1 - 1e-5, (2, 64, 64, k)).astype(np.float32)) for k in (10, 3))
    ours = dmol_sample(model.output_params(reference["latents31"]), 10, u1, u2)
    difference = np.abs(ours.astype(int) - reference["sampled_image_31"])
    assert difference.max() <= 1  # we round to the nearest level, the original cuts


def test_published_checkpoint_has_exactly_our_parameters():
    shapes = json.loads((DATA / "vdvae_imagenet64_shapes.json").read_text())
    with torch.device("meta"):
        model = VDVAE(VDVAEConfig())
    assert {k: list(v.shape) for k, v in model.state_dict().items()} == shapes
    assert model.n_latents(31) == 91_168
    assert model.n_latents(75) == 1_451_040


def test_openai_loader_reads_a_plain_state_dict_and_refuses_a_wrong_one(tmp_path):
    state, path = load_file(DATA / "vdvae_width32.safetensors"), tmp_path / "model.th"
    torch.save(state, path)
    ours = load_openai(path).state_dict()
    assert ours.keys() == state.keys() and all(torch.equal(ours[k], v) for k, v in state.items())
    for name in ("encoder.in_conv.weight", "decoder.bias_xs.2", "decoder.out_net.out_conv.weight", "decoder.gain"):
        torch.save({k: v for k, v in state.items() if k != name}, path)
        with pytest.raises(BadFile, match=f"not OpenAI's ImageNet-64 VDVAE: {name} is missing: fetch it again"):
            load_openai(path)
        torch.save(state | {name: state[name][:, :-1]}, path)
        with pytest.raises(BadFile, match=f"VDVAE: {name} should be .*, is .*: fetch it again"):
            load_openai(path)
    torch.save(state | {"extra": torch.zeros(1)}, path)
    with pytest.raises(BadFile, match="extra is unknown"):
        load_openai(path)


def test_block_strings_expand_as_in_the_paper():
    assert parse_blocks("4x2,4d2,8m4") == [(4, None, None), (4, None, None), (4, 2, None), (8, None, 4)]
    with pytest.raises(ValueError, match="'4y1'"):
        parse_blocks("4y1")


def test_kl_is_torchs(rng):
    q_mean, q_logsd, p_mean, p_logsd = (torch.tensor(rng.normal(size=5)) for _ in range(4))
    q, p = (torch.distributions.Normal(m, s.exp()) for m, s in ((q_mean, q_logsd), (p_mean, p_logsd)))
    ours = gaussian_kl(q_mean, q_logsd, p_mean, p_logsd)
    torch.testing.assert_close(ours, torch.distributions.kl_divergence(q, p))


def test_discretised_mixture_sums_to_one_over_all_values_of_a_pixel():
    torch.manual_seed(0)
    params = torch.randn(1, 1, 1, 20)
    levels = torch.arange(256) / 127.5 - 1
    fixed = torch.zeros(256, 1, 1, 3)
    fixed[:, 0, 0, 2] = levels  # blue runs over all values, red and green stay
    joint = dmol_log_likelihood(fixed, params.expand(256, 1, 1, 20), 2).exp().sum()
    green = torch.zeros(256, 1, 1, 3)
    green[:, 0, 0, 1] = levels
    double = sum(
        dmol_log_likelihood(green + fixed[k], params.expand(256, 1, 1, 20), 2).exp().sum() for k in range(0, 256, 1)
    )
    assert joint < 1
    red_zero = torch.sigmoid  # marginal of red = 0: closed form of one discretised logistic per component
    logits, rest = params[..., :2].flatten(), params[..., 2:].reshape(3, 6)
    mean, scale = rest[0, :2], rest[0, 2:4].clamp(min=-7).exp()
    marginal = (logits.softmax(0) * (red_zero((1 / 255 - mean) / scale) - red_zero((-1 / 255 - mean) / scale))).sum()
    torch.testing.assert_close(double, marginal, rtol=1e-3, atol=1e-6)


def test_expected_picture_is_the_mean_of_many_samples():
    torch.manual_seed(0)
    params = 0.3 * torch.randn(1, 2, 2, 20)
    n = 4000
    many = params.expand(n, 2, 2, 20)
    u1, u2 = (torch.rand(n, 2, 2, k).clamp(1e-5, 1 - 1e-5) for k in (2, 3))
    narrow = many.clone()
    narrow.reshape(n, 2, 2, 20)[..., 2:].view(n, 2, 2, 3, 6)[
        ..., 2:4
    ] = -4.0  # narrow logistics: no clipping at the ends
    samples = dmol_sample(narrow, 2, u1, u2).astype(float).mean(0)
    assert np.abs(samples - dmol_mean(narrow[:1], 2)[0]).max() < 4


def test_layers_not_given_come_from_the_prior_seeded_per_image(tiny_vdvae, rng):
    z = np.repeat(rng.normal(size=(1, 34)), 3, 0)
    pictures = tiny_vdvae.decode(z, Drawing(1.0), seeds=[5, 6, 5])
    assert (pictures[0] == pictures[2]).all()
    assert (pictures[0] != pictures[1]).any()
    alone = tiny_vdvae.decode(z[:1], Drawing(1.0), seeds=[6])
    assert (alone[0] == pictures[1]).all()


def test_a_drawn_picture_is_the_originals_sample_at_temperature_1_by_its_own_seed(tiny_vdvae, rng):
    """Numbers are drawn as documented: the layers' by the image's seed, the pixels' by that seed and 2³²."""
    z, seeds = rng.normal(size=(2, 34)), [3, 7]
    drawn = tiny_vdvae.decode(z, Drawing(1.0, sample=True), seeds)
    params = tiny_vdvae.output_params(z, 1.0, seeds)
    noise = [torch.rand(64, 64, 5, generator=torch.Generator().manual_seed(s + 2**32)) for s in seeds]
    u = torch.stack(noise) * (1 - 2e-5) + 1e-5
    assert (drawn == dmol_sample(params, 2, u[..., :2], u[..., 2:])).all()
    assert (tiny_vdvae.decode(z[1:], Drawing(1.0, sample=True), [7])[0] == drawn[1]).all()
    steps = list(tiny_vdvae.decode_progressively(z, Drawing(1.0, sample=True), seeds))
    assert (steps[-1][1] == drawn).all()
    assert (drawn != tiny_vdvae.decode(z, Drawing(1.0), seeds)).any() and (drawn != tiny_vdvae.decode(z)).any()


def test_posterior_samples_are_drawn_layer_by_layer_each_given_those_before_it(tiny_vdvae, rng):
    images, n_layers = rng.integers(0, 256, (2, 64, 64, 3), dtype=np.uint8), 4
    with torch.inference_mode():
        features = tiny_vdvae.encoder(tiny_vdvae.scale_pixels(images))
        state, generators, expected = (
            tiny_vdvae.decoder.start(2),
            [torch.Generator().manual_seed(s) for s in (5, 9)],
            [],
        )
        for block in tiny_vdvae.decoder.dec_blocks[:n_layers]:
            h = state[block.resolution]
            if block.mixin is not None:
                h = h + block.upsampled(state)
            mean, logsd = block.enc(torch.cat([h, features[block.resolution]], 1)).chunk(2, 1)
            z = mean + logsd.exp() * torch.stack([torch.randn(mean.shape[1:], generator=g) for g in generators])
            expected.append(z.flatten(1))
            h = h + block.prior(h)[:, 4:]
            state = state | {block.resolution: block.resnet(h + block.z_proj(z))}
    samples = tiny_vdvae.encode(images, n_layers, seeds=[5, 9])
    np.testing.assert_allclose(samples, torch.cat(expected, 1), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tiny_vdvae.encode(images[1:], n_layers, seeds=[9]), samples[1:], rtol=1e-4, atol=1e-5)
    many = tiny_vdvae.encode(np.repeat(images[:1], 400, 0), n_layers, seeds=range(400))
    means = tiny_vdvae.encode(images[:1], n_layers)
    assert np.abs(many[:, :2].mean(0) - means[0, :2]).max() < 4 * many[:, :2].std(0).max() / 20


def test_decoding_all_layers_ignores_the_prior(tiny_vdvae, rng):
    z = rng.normal(size=(1, tiny_vdvae.n_latents(7)))
    assert (tiny_vdvae.decode(z, Drawing(1.0), seeds=[1]) == tiny_vdvae.decode(z, Drawing(1.0), seeds=[2])).all()


def test_progressive_decoding_ends_with_decode_and_steps_use_only_their_layers(tiny_vdvae, rng):
    z = rng.normal(size=(2, tiny_vdvae.n_latents(4)))
    steps = list(tiny_vdvae.decode_progressively(z))
    assert [s for s, _ in steps] == [1, 4, 8]
    assert (steps[-1][1] == tiny_vdvae.decode(z)).all()
    assert (steps[1][1] == tiny_vdvae.decode(z[:, :34])).all()
    some = list(tiny_vdvae.decode_progressively(z, coarse=(4,)))
    assert [s for s, _ in some] == [4, 8] and all((a == b).all() for (_, a), (_, b) in zip(some, steps[1:]))


def test_latents_flatten_in_layer_order(tiny_vdvae, rng):
    z = rng.normal(size=(2, 34)).astype(np.float32)
    first, second = tiny_vdvae.unflatten(z)
    assert first.shape == (2, 2, 1, 1) and second.shape == (2, 2, 4, 4)
    assert np.array_equal(second[1].flatten().numpy(), z[1, 2:])


def test_latents_that_end_inside_a_layer_are_refused(tiny_vdvae):
    with pytest.raises(ValueError, match=r"whole layers.*got \(1, 33\)"):
        tiny_vdvae.decode(np.zeros((1, 33)))


def test_pictures_of_another_size_are_refused(tiny_vdvae):
    with pytest.raises(ValueError, match=r"\(n, 64, 64, 3\).*\(1, 32, 32, 3\)"):
        tiny_vdvae.encode(np.zeros((1, 32, 32, 3), np.uint8))


def test_saved_weights_decode_alike(tiny_vdvae, tmp_path, rng):
    tiny_vdvae.save(tmp_path / "v.safetensors", torch.float32)
    z = rng.normal(size=(1, 290))
    assert (VDVAE.load(tmp_path / "v.safetensors").decode(z) == tiny_vdvae.decode(z)).all()


def test_bilinear_upsampling_keeps_a_ramp_a_ramp_and_nearest_makes_steps_of_it():
    ramp = torch.arange(8.0).expand(1, 4, 8, 8)

    def enlarged(upsampling):
        cfg = VDVAEConfig("16d2,8x1", "8x1,16m8", width=4, zdim=2, image_size=16, upsampling=upsampling)
        return VDVAE(cfg).decoder.dec_blocks[1].upsampled({8: ramp})[0, 0, 0].detach().numpy()

    assert np.allclose(np.diff(enlarged("bilinear"))[1:-1], 0.5)
    assert np.allclose(np.diff(enlarged("nearest")), np.arange(15) % 2)
