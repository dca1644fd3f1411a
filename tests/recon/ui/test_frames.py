"""Reconstructions are remembered within bounds, told in the log without what their readers wrote, and lent a GPU for as long
as they need."""

import asyncio
import base64
import json
from dataclasses import replace
from threading import Thread
from types import SimpleNamespace

import numpy as np
import pytest

from recon.bundle.bundle import load_bundle
from recon.reconstruct import Frame, Reading, reconstruct
from recon.settings import LCMSettings, Settings
from recon.ui.controls import control_values, reading_of
from recon.ui.server import serve
from recon.ui.server.cache import FrameCache
from recon.ui.server.endpoint import panel_files
from recon.ui.server.frames import frame_source, frames_of, generator
from recon.ui.server.health import health
from recon.ui.server.serve import describe_device, gpu_seconds, on_gpu
from recon.ui.server.studio import open_studio

SECRET = "a purple cow that I dreamt of"


def frame(value: int, side: int = 10, stage: str = "lcm") -> Frame:
    reading = Reading(np.zeros(7, np.float32), np.zeros(6, np.float32))
    return Frame(stage, 1, {"lcm": np.full((side, side, 3), value, np.uint8)}, 0.5, True, True, reading)


@pytest.fixture
def studio(tiny_bundle):
    studio, open_models = open_studio(tiny_bundle)
    open_models()
    return studio


def picture(frames) -> np.ndarray:
    """Stage 2's last one."""
    return [f.images["lcm"] for f in frames if f.stage == "lcm"][-1]


def logged(capsys) -> list[dict]:
    return [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith("{")]


def test_the_least_recently_used_reconstruction_is_dropped_first():
    cache = FrameCache(max_bytes=3 * (300 + len(repr("a"))))
    for key in "abc":
        cache.put(key, [frame(ord(key))])
    assert cache.get("a") is not None
    cache.put("d", [frame(0)])
    assert [cache.get(key) is not None for key in "abcd"] == [True, False, True, True]


def test_the_cache_never_holds_more_than_its_bound_and_counts_what_it_holds():
    cache, rng = FrameCache(max_bytes=5000), np.random.default_rng(0)
    for key in rng.integers(0, 20, 300):
        cache.put(int(key), [frame(0, int(rng.integers(1, 30))) for _ in range(3)])
        held = {k: kept for k in range(20) if (kept := cache.get(k))}
        images = sum(f.images["lcm"].nbytes for kept in held.values() for f in kept)
        assert cache.n_bytes == images + sum(len(repr(k)) for k in held) <= 5000
    cache.put("too large", [frame(0, 100)])
    assert cache.get("too large") is None


def test_threads_may_share_the_cache():
    cache = FrameCache(max_bytes=3000)

    def work(seed: int) -> None:
        for key in np.random.default_rng(seed).integers(0, 30, 2000):
            cache.put(int(key), [frame(int(key))])
            kept = cache.get(int(key))
            wrong.extend([key] if kept and kept[0].images["lcm"][0, 0, 0] != key else [])

    wrong: list = []
    threads = [Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    held = [len(repr(k)) + kept[0].images["lcm"].nbytes for k in range(30) if (kept := cache.get(k))]
    assert not wrong and cache.n_bytes == sum(held) and len(held) == 9


def test_the_cache_counts_keys():
    cache = FrameCache(max_bytes=5000)
    for k in range(40):
        cache.put(("x" * 1000, k), [frame(0, 1)])
    assert sum(cache.get(("x" * 1000, k)) is not None for k in range(40)) == 4 and cache.n_bytes <= 5000


def test_the_same_request_is_computed_once_and_another_anew(studio, capsys):
    asked = []

    def generate(index, settings):
        asked.append((index, settings))
        yield from generator(studio)(index, settings)

    frames = frame_source(studio, generate, FrameCache())
    other = replace(Settings(), lcm=LCMSettings(seed=1))
    first, again, another = list(frames(0, Settings())), list(frames(0, Settings())), list(frames(0, other))
    assert asked == [(0, Settings()), (0, other)]
    assert all((a.images[k] == b.images[k]).all() for a, b in zip(first, again) for k in a.images) and len(first) > 4
    assert (picture(first) != picture(another)).any()
    assert [line["cached"] for line in logged(capsys)] == [False, True, False]


def test_an_unfinished_reconstruction_is_not_remembered(studio, capsys):
    cache = FrameCache()
    frames = frame_source(studio, generator(studio), cache)
    stream = frames(0, Settings())
    next(stream)
    stream.close()
    with pytest.raises(IndexError):
        list(frames(99, Settings()))
    assert cache.n_bytes == 0
    assert [line["ended"] for line in logged(capsys)] == ["left", "failed"]


def test_the_log_has_stage_times_and_settings_but_no_prompt(studio, capsys):
    frames = frame_source(studio, generator(studio), FrameCache())
    list(frames(1, Settings(prompt="own", own_prompt=SECRET)))
    text = capsys.readouterr().out
    line = json.loads(text.strip().split("\n")[-1])
    assert SECRET not in text and line["prompt"] == "own" and line["picture"] == 1 and line["steps"] == 4
    assert line["ended"] == "finished" and 0 < line["lcm_s"] <= line["total_s"] and line["vdvae_s"] > 0


def test_stage_2_follows_the_layout_of_the_chosen_regressor(studio):
    shown = list(generator(studio)(0, Settings(regressor="ridge")))
    assert [f.stage for f in shown] == ["vdvae"] * 2 + ["lcm"] * 4 + ["vdvae"]
    assert "ceiling" not in shown[1].images and "ceiling" in shown[-1].images
    *_, expected = reconstruct(studio.subject.test.response(0), studio.bundle, Settings(regressor="ridge"))
    assert (picture(shown) == expected.images["lcm"]).all()


def test_elsewhere_than_on_zerogpu_the_generator_is_left_alone(studio):
    def generate(index, settings):
        yield index

    assert on_gpu(generate) is generate


def test_on_zerogpu_a_gpu_is_lent_for_as_long_as_the_settings_need(monkeypatch):
    lent = SimpleNamespace(GPU=lambda function, duration: (function, duration))
    monkeypatch.setattr(serve, "ZERO_GPU", True)
    monkeypatch.setattr(serve, "spaces", lent, raising=False)
    function, duration = on_gpu(print)
    assert function is print
    short, long = Settings(lcm=LCMSettings(steps=1)), Settings(lcm=LCMSettings(steps=8, guidance=2.0))
    assert duration(0, long) - duration(0, short) == 15 and duration is gpu_seconds


@pytest.mark.parametrize("damage", [lambda b: b[: len(b) // 2], lambda b: b[:-1] + bytes([b[-1] ^ 1])])
def test_health_tells_why_a_damaged_bundle_does_not_open(tiny_bundle, damage):
    path = tiny_bundle / "prompt_mlp.safetensors"
    path.write_bytes(damage(path.read_bytes()))
    studio, open_models = open_studio(tiny_bundle)
    open_models()
    answer = asyncio.run(health(studio, describe_device)(None))
    told = json.loads(answer.body)
    assert answer.status_code == 503 and not told["ready"] and "prompt_mlp.safetensors" in told["error"]


def test_the_device_is_told_from_the_weights(tiny_bundle):
    said = describe_device(load_bundle(tiny_bundle))
    assert "float32" in said and ("CPU" in said) == (" thread" in said)


def test_a_panel_is_downloaded_from_memory_and_nothing_is_computed_for_it(studio, monkeypatch):
    settings = Settings(lcm=LCMSettings(steps=2))
    wish = {"index": 2, "settings": control_values(settings) | {"own_prompt": ""}, "reading": reading_of(settings)}
    assert panel_files(studio, wish) is None
    frames = frames_of(studio)
    next(frames(2, settings))
    assert panel_files(studio, wish) is None
    *_, last = frames(2, settings)
    monkeypatch.setattr("recon.reconstruct.reconstruct", lambda *_: pytest.fail("something was computed"))
    png, record = panel_files(studio, wish)
    assert (png["name"], png["type"]) == ("tiny_picture2.png", "image/png")
    assert json.loads(base64.b64decode(record["data"]))["picture"] == 2 and last.last
    for nonsense in ({}, wish | {"index": [2]}, wish | {"index": 3}, wish | {"settings": None}):
        assert panel_files(studio, nonsense) is None
