"""The teacher's walks that the LCM-LoRA learns from, against diffusers' own solver; the student, against its own LCM step."""

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, LCMScheduler, UNet2DConditionModel
from safetensors.torch import load_file
from tiny_diffusion import EMBEDDING, SIDE, TOKENS, WIDTH, tiny_adapter, tiny_lora, tiny_pipeline

from precompute.demo import train_lcm
from precompute.demo.condition import Adapted, Condition
from precompute.demo.sharpen_lcm import ALONE, features, relativistic, sharpen_lcm
from precompute.demo.train_lcm import Student, Walked, Walking, extract_walks
from precompute.demo.train_unet import Examples, Sources
from precompute.demo.training import Schedule, Weights

GUIDANCE, N = 2.5, 18


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder with a teacher, its image adapter and a LoRA for it; examples are random."""
    rng = np.random.default_rng(0)
    codes = torch.tensor(rng.normal(size=(2, 6, 4, SIDE, SIDE)), dtype=torch.float16)
    states = torch.tensor(rng.normal(size=(60, TOKENS, WIDTH)), dtype=torch.float32)
    ids = torch.arange(60).reshape(2, 6, 5, 1)
    examples = Examples(codes, ids, lambda some: states[some[:, 0]], torch.zeros(TOKENS, WIDTH))
    monkeypatch.setattr(train_lcm.Examples, "load", lambda *_: examples)
    monkeypatch.setattr(train_lcm, "WALK_BATCH", 6)
    pipe = tiny_pipeline()
    pipe.unet.save_pretrained(tmp_path / "unet")
    pipe.scheduler.save_pretrained(tmp_path / "unet")
    tiny_lora(pipe, tmp_path / "lora.safetensors")
    tiny_adapter(pipe, tmp_path / "ip_adapter.safetensors", gain=1)
    np.save(tmp_path / "embeddings.npy", rng.normal(size=(2, 6, EMBEDDING)).astype(np.float16))
    return tmp_path


@pytest.fixture
def networks(folder):
    return Adapted(folder / "unet", folder / "ip_adapter.safetensors")


def random_condition(n, guided):
    return Condition(torch.randn(n, TOKENS, WIDTH), torch.randn(n, EMBEDDING), torch.tensor(guided))


@pytest.fixture(params=[False, True], ids=["from training latents", "from the student's"])
def walked(folder, networks, request):
    """Walks of either round."""
    lora = folder / "lora.safetensors" if request.param else None
    files = Sources(None, None, None, folder / "embeddings.npy")
    extract_walks(files, networks, folder / "walks.npz", Walking(N, GUIDANCE, 0), lora)
    return {name: values.numpy() for name, values in Walked.load(folder / "walks.npz").arrays.items()}


def by_diffusers(unet: UNet2DConditionModel, config: dict, x, times: list[int], prompt, image=None):
    """First-order DPM-Solver++, which is DDIM (Lu et al. 2022), to clean latents; `image` for an adapted network."""
    embeds = None if image is None else {"image_embeds": [torch.cat([torch.zeros_like(image), image])[:, None]]}
    solver = DPMSolverMultistepScheduler.from_config(config, solver_order=1, final_sigmas_type="zero")
    solver.set_timesteps(timesteps=times)
    for t in solver.timesteps:
        both = torch.cat([torch.zeros_like(prompt), prompt])
        without, given = unet(torch.cat([x, x]), t, both, added_cond_kwargs=embeds).sample.chunk(2)
        x = solver.step(without + GUIDANCE * (given - without), t, x, return_dict=False)[0]
    return x


def test_every_walk_ends_where_diffusers_solver_does_guided_by_an_image_or_by_text_alone(walked, networks):
    w, pipe, adapted = walked, tiny_pipeline(), networks.load()
    assert len(w["ends"]) == len(w["prompts"]) == N
    for walk in range(N):
        rows = np.flatnonzero(w["walks"] == walk)
        times = w["times"][rows].tolist()
        assert times == sorted(times, reverse=True) and times[-1] < 60
        x, *given = (
            torch.tensor(w[a][k][None]).float() for a, k in (("places", rows[0]), ("prompts", walk), ("images", walk))
        )
        unet, given = (adapted, given) if w["guided"][walk] else (pipe.unet, given[:1])
        with torch.no_grad():
            end = by_diffusers(unet, pipe.scheduler.config, x, times, *given)
        torch.testing.assert_close(torch.tensor(w["ends"][walk : walk + 1]).float(), end, atol=0.02, rtol=0.02)


def test_walks_begin_at_every_level_and_reach_all_timesteps_of_an_lcm(walked):
    w = walked
    assert {int(t) % 20 for t in w["times"]} == {19}
    first = [int(w["times"][w["walks"] == walk].max()) for walk in range(N)]
    assert max(first) > 900 and min(first) < 250


def test_some_walks_have_the_empty_prompt(walked):
    w = walked
    empty = (w["prompts"] == 0).all((1, 2)).mean()
    assert 0 < empty < 0.5


def test_in_about_half_of_the_walks_an_image_counts(walked):
    assert 0.2 < walked["guided"].mean() < 0.8


def test_the_image_counts_in_the_rows_that_it_guides_and_in_no_other(networks):
    x, t, unet, plain = torch.randn(3, 4, SIDE, SIDE), torch.tensor(500), networks.load(), tiny_pipeline().unet
    condition = random_condition(3, [True, False, True])
    image = {"image_embeds": [condition.image[:, None]]}
    with torch.no_grad():
        found, without = condition.predict(unet, x, t), plain(x, t, condition.prompt).sample
        adapted = unet(x, t, condition.prompt, added_cond_kwargs=image).sample
    torch.testing.assert_close(found[1], without[1], atol=1e-5, rtol=1e-4)
    torch.testing.assert_close(found[[0, 2]], adapted[[0, 2]], atol=1e-5, rtol=1e-4)
    assert (adapted - without).abs().max() > 0.01


def test_a_students_estimate_is_that_of_diffusers_lcm_scheduler(folder, networks):
    student = Student.load(networks, folder / "lora.safetensors", 0)
    pipe, x, condition = tiny_pipeline(), torch.randn(3, 4, SIDE, SIDE), random_condition(3, [False] * 3)
    pipe.load_lora_weights(folder / "lora.safetensors")
    scheduler = LCMScheduler.from_config(pipe.scheduler.config)
    scheduler.set_timesteps(4)
    for t in scheduler.timesteps:
        with torch.no_grad():
            _, wanted = scheduler.step(pipe.unet(x, t, condition.prompt).sample, t, x, return_dict=False)
            torch.testing.assert_close(student.clean(x, t.expand(3), condition), wanted, atol=1e-5, rtol=1e-4)


def test_a_student_samples_only_with_the_steps_above_the_time_it_is_asked_for(folder, networks, monkeypatch):
    student, seen = Student.load(networks, folder / "lora.safetensors", 0), []
    monkeypatch.setattr(Student, "clean", lambda self, x, t, condition: seen.append(t.tolist()) or x)
    clean = student.sample(random_condition(4, [True] * 4), (4, SIDE, SIDE), 4, torch.tensor([999, 759, 300, 19]))
    assert seen == [[999] * 3, [759] * 2, [499] * 2, [259]]
    assert not clean[0].any() and clean[1:].flatten(1).any(1).all()


def test_sharpening_begins_with_the_soft_lora(folder, walked, networks):
    walks, frozen, out = folder / "walks.npz", Schedule(2, 0.0, 4, weight_decay=0.0), folder / "again.safetensors"
    sharpen_lcm(walks, walks, networks, Weights(out, folder, folder / "lora.safetensors"), frozen, 0)
    before, after = load_file(folder / "lora.safetensors"), load_file(out)
    assert before.keys() == after.keys()
    for key, value in before.items():
        torch.testing.assert_close(after[key].float(), value.float(), atol=1e-3, rtol=1e-3)


@pytest.fixture
def sharpening(folder, walked, networks, monkeypatch):
    """The networks, and the losses of a step, of `sharpen_lcm`."""
    caught = {}

    def instead(networks, loss, checkpoint, schedule, seed):
        caught.update(networks=networks, loss=loss)
        raise StopIteration

    monkeypatch.setattr("precompute.demo.sharpen_lcm.train", instead)
    walks, weights = folder / "walks.npz", Weights(folder / "out", folder, folder / "lora.safetensors")
    with pytest.raises(StopIteration):
        sharpen_lcm(walks, walks, networks, weights, Schedule(1, 1e-3, 8), 0)
    return caught["networks"], caught["loss"]


def reached(part: torch.Tensor, network: torch.nn.Module) -> bool:
    weights = [p for p in network.parameters() if p.requires_grad]
    return any(
        g is not None and g.any() for g in torch.autograd.grad(part, weights, allow_unused=True, retain_graph=True)
    )


def test_each_of_the_two_networks_learns_from_its_own_loss_alone(sharpening):
    networks, loss = sharpening
    parts = loss(ALONE)
    assert reached(parts["adversarial"], networks["student"]) and reached(parts["regression"], networks["student"])
    assert not reached(parts["adversarial"], networks["discriminator"])
    assert reached(parts["discriminator"], networks["discriminator"])
    assert not reached(parts["discriminator"], networks["student"])


def test_the_discriminator_learns_to_tell_the_students_estimates_from_the_teachers(sharpening):
    networks, loss = sharpening
    heads = [p for p in networks["discriminator"].parameters() if p.requires_grad]
    optimiser = torch.optim.Adam(heads, 1e-2)
    losses = []
    for _ in range(25):
        optimiser.zero_grad()
        part = loss(0)["discriminator"]
        part.backward()
        optimiser.step()
        losses.append(float(part.detach()))
    assert losses[-1] < 0.9 * losses[0]


def test_the_relativistic_loss_is_small_only_if_the_winner_wins():
    high, low = torch.full((2, 3), 5.0), torch.zeros(3)
    assert float(relativistic(high, low)) == pytest.approx(np.log1p(np.exp(-5)), rel=1e-5)
    assert float(relativistic(low, high)) == pytest.approx(np.log1p(np.exp(5)), rel=1e-5)


def test_features_are_those_of_the_unets_own_forward_pass(folder):
    unet = UNet2DConditionModel.from_pretrained(folder / "unet")
    seen = []
    parts = [*(block.attentions[-1] for block in unet.down_blocks), unet.mid_block]
    for part in parts:
        part.register_forward_hook(lambda module, inputs, out: seen.append(out if torch.is_tensor(out) else out[0]))
    x, t, prompt = torch.randn(3, 4, SIDE, SIDE), torch.tensor([19, 259, 799]), torch.randn(3, TOKENS, WIDTH)
    with torch.no_grad():
        unet(x, t, prompt)
        expected, seen[:] = list(seen), []
        for ours, theirs in zip(features(unet, x, t, prompt), expected, strict=True):
            torch.testing.assert_close(ours, theirs)
