"""The teacher's walks that the LCM-LoRA learns from, against diffusers' own solver."""

import numpy as np
import pytest
import torch
from diffusers import DPMSolverMultistepScheduler, UNet2DConditionModel
from tiny_diffusion import SIDE, TOKENS, WIDTH, tiny_pipeline

from precompute.demo import train_lcm
from precompute.demo.train_lcm import Distillation, extract_walks
from precompute.demo.train_unet import Examples

HOW = Distillation(walks=18, guidance=2.5)


@pytest.fixture
def walked(tmp_path, monkeypatch):
    rng = np.random.default_rng(0)
    codes = rng.normal(size=(2, 6, 4, SIDE, SIDE)).astype(np.float16)
    states = rng.normal(size=(2, 6, 5, TOKENS, WIDTH)).astype(np.float16)
    examples = Examples(codes, states, torch.zeros(TOKENS, WIDTH))
    monkeypatch.setattr(train_lcm.Examples, "load", lambda *_: examples)
    monkeypatch.setattr(train_lcm, "WALK_BATCH", 6)
    pipe = tiny_pipeline()
    pipe.unet.save_pretrained(tmp_path / "unet")
    pipe.scheduler.save_pretrained(tmp_path / "unet")
    extract_walks(tmp_path, tmp_path, tmp_path, tmp_path / "unet", tmp_path / "walks.npz", HOW, seed=0)
    with np.load(tmp_path / "walks.npz", allow_pickle=False) as file:
        return {name: file[name] for name in file.files}, pipe


def by_diffusers(unet: UNet2DConditionModel, config: dict, x, times: list[int], prompt):
    """First-order DPM-Solver++, which is DDIM (Lu et al. 2022), to clean latents."""
    solver = DPMSolverMultistepScheduler.from_config(config, solver_order=1, final_sigmas_type="zero")
    solver.set_timesteps(timesteps=times)
    for t in solver.timesteps:
        without, given = unet(torch.cat([x, x]), t, torch.cat([torch.zeros_like(prompt), prompt])).sample.chunk(2)
        x = solver.step(without + HOW.guidance * (given - without), t, x, return_dict=False)[0]
    return x


def test_every_walk_ends_where_diffusers_solver_does(walked):
    w, pipe = walked
    assert len(w["ends"]) == len(w["prompts"]) == 18
    for walk in range(18):
        rows = np.flatnonzero(w["walks"] == walk)
        times = w["times"][rows].tolist()
        assert times == sorted(times, reverse=True) and times[-1] < 60
        x, prompt = (torch.tensor(a[None]).float() for a in (w["places"][rows[0]], w["prompts"][walk]))
        with torch.no_grad():
            end = by_diffusers(pipe.unet, pipe.scheduler.config, x, times, prompt)
        torch.testing.assert_close(torch.tensor(w["ends"][walk : walk + 1]).float(), end, atol=0.02, rtol=0.02)


def test_walks_begin_at_every_level_and_reach_all_timesteps_of_an_lcm(walked):
    w, _ = walked
    assert {int(t) % 20 for t in w["times"]} == {19}
    first = [int(w["times"][w["walks"] == walk].max()) for walk in range(18)]
    assert max(first) > 900 and min(first) < 250


def test_some_walks_have_the_empty_prompt(walked):
    w, _ = walked
    empty = (w["prompts"] == 0).all((1, 2)).mean()
    assert 0 < empty < 0.5
