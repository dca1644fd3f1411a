"""LoRA weights are fused at the strength that their file says, in whatever way it says it."""

import json

import pytest
import torch
from peft import LoraConfig
from safetensors.torch import load_file, save_file
from tiny_diffusion import tiny_lora, tiny_pipeline

from recon.decoders.lora import fuse_lora
from recon.files import BadFile

RANK = 3


@pytest.fixture(scope="module")
def weights(tmp_path_factory):
    """peft's names -> tensors of a LoRA of rank 3."""
    return load_file(tiny_lora(tiny_pipeline(), tmp_path_factory.mktemp("lora") / "lora.safetensors"))


def strength(weights, path) -> tuple[float, float]:
    """Least and largest share of B A that fusing a file adds to the linear modules."""
    pipe = tiny_pipeline()
    before = {k: v.clone() for k, v in pipe.unet.state_dict().items()}
    fuse_lora(pipe, path)
    after, shares = pipe.unet.state_dict(), []
    for key, down in weights.items():
        if key.endswith("lora_A.weight") and down.ndim == 2:
            name = key.removeprefix("unet.").removesuffix("lora_A.weight") + "weight"
            whole = weights[key.replace("lora_A", "lora_B")] @ down
            shares.append(float(((after[name] - before[name]) * whole).sum() / (whole**2).sum()))
    return min(shares), max(shares)


def told(alpha, **more):
    """Metadata as diffusers writes it."""
    config = LoraConfig(r=RANK, lora_alpha=alpha, target_modules=["to_q"], **more).to_dict()
    content = {f"unet.{k}": sorted(v) if isinstance(v, set) else v for k, v in config.items()}
    return {"format": "pt", "lora_adapter_metadata": json.dumps(content)}


def kohya(weights, alpha=None):
    renamed = {}
    for key, value in weights.items():
        name, which = key.removeprefix("unet.").removesuffix(".weight").rsplit(".", 1)
        stem = f"lora_unet_{name.replace('.', '_')}"
        renamed[f"{stem}.lora_{'down' if which == 'lora_A' else 'up'}.weight"] = value
        if alpha is not None:
            renamed[f"{stem}.alpha"] = torch.tensor(float(alpha))
    return renamed


def older(key):
    return key.replace("lora_A", "lora.down").replace("lora_B", "lora.up")


def beside(weights, alpha):
    """peft's names, and alpha as tensors beside them."""
    names = [key for key in weights if key.endswith("lora_A.weight")]
    return weights | {key.replace("lora_A.weight", "alpha"): torch.tensor(float(alpha)) for key in names}


WAYS = {  # file -> (what is in it, how many times B A is added)
    "nothing told": (lambda w: (w, None), 1),
    "alpha in metadata": (lambda w: (w, told(12)), 4),
    "less than the rank": (lambda w: (w, told(1)), 1 / 3),
    "by the root of the rank": (lambda w: (w, told(3, use_rslora=True)), 3**0.5),
    "alpha beside peft's names": (lambda w: (beside(w, 6), None), 2),
    "kohya's names": (lambda w: (kohya(w, 12), None), 4),
    "kohya's names, no alpha": (lambda w: (kohya(w), None), 1),
    "kohya's alpha and metadata": (lambda w: (kohya(w, 6), told(12)), 2),
    "older diffusers": (lambda w: ({older(k): v for k, v in w.items()}, None), 1),
    "float16 and metadata": (lambda w: ({k: v.half() for k, v in w.items()}, told(12)), 4),
    "bfloat16": (lambda w: ({k: v.bfloat16() for k, v in w.items()}, told(12)), 4),
}  # fmt: skip


@pytest.mark.parametrize("way", WAYS)
def test_the_alpha_that_a_file_tells_is_the_one_it_is_fused_by(weights, tmp_path, way):
    make, expected = WAYS[way]
    tensors, metadata = make(weights)
    save_file(tensors, tmp_path / "lora.safetensors", metadata=metadata)
    assert strength(weights, tmp_path / "lora.safetensors") == pytest.approx((expected, expected), rel=0.01)


@pytest.mark.parametrize("make, expected", [(lambda w: w, 1), (lambda w: kohya(w, 12), 4), (lambda w: beside(w, 6), 2)])
def test_bin_files_are_read_as_safetensors_are(weights, tmp_path, make, expected):
    torch.save(make(weights), tmp_path / "lora.bin")
    assert strength(weights, tmp_path / "lora.bin") == pytest.approx((expected, expected), rel=0.01)


REFUSED = {
    "DoRA": (lambda w: (w | {"unet.mid_block.dora_scale": torch.ones(3)}, None), "expected plain LoRA weights, got .*dora_scale"),
    "kohya's DoRA": (lambda w: (kohya(w, 3) | {"lora_unet_x.dora_scale": torch.ones(3)}, None), "DoRA and LyCORIS are not known"),
    "LoHa": (lambda w: (kohya(w) | {"lora_unet_x.hada_w1_a": torch.ones(3)}, None), "DoRA and LyCORIS are not known"),
    "NaN": (lambda w: ({k: v * torch.nan for k, v in w.items()}, None), "expected finite weights, got NaN or infinity in unet"),
    "an alpha of zero": (lambda w: (w, told(0)), "changes nothing: its alpha"),
    "metadata that is no JSON": (lambda w: (w, {"lora_adapter_metadata": "{broken"}), "does not fit the UNet"),
    "another prefix": (lambda w: ({k.removeprefix("unet."): v for k, v in w.items()}, None), "115 LoRA modules in the file, 0 of"),
}  # fmt: skip


@pytest.mark.parametrize("way", REFUSED)
def test_what_would_be_fused_in_part_or_wrongly_is_refused(weights, tmp_path, way):
    make, words = REFUSED[way]
    tensors, metadata = make(weights)
    save_file(tensors, tmp_path / "lora.safetensors", metadata=metadata)
    with pytest.raises(BadFile, match=words) as refused:
        fuse_lora(tiny_pipeline(), tmp_path / "lora.safetensors")
    assert "\n" not in str(refused.value)
