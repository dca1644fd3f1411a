"""The published models: which they are, which revision of each is used, where its files lie on this computer.

`python -m precompute fetch models` downloads them and writes down, in the lock file, what it got:

    {"diffusion": {"source": "Lykon/dreamshaper-7", "revision": <40 hex>, "files": {"vae/config.json": <bytes>, ...}},
     "vdvae": {"source": <URL>, "etag": ..., "sha256": ..., "files": {<file name>: <bytes>}}}

`locate` finds exactly those files again, without a network. Hub models lie in the Hugging Face cache, single files in the
models folder (`RECON_MODELS`, by default `data/models`); the lock is `RECON_LOCK`, by default `assets/models.lock.json`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from recon.environment import lock_file, models_folder
from recon.files import BadFile, load_json, save_json

COMMAND = "python -m precompute fetch models"
IMAGE_ENCODER = "models/image_encoder"  # folder of that model in its repository


@dataclass(frozen=True)
class Model:
    """One published model: a repository of the Hugging Face Hub, or a single file at a URL."""

    name: str
    source: str  # repository id, or URL
    purpose: str
    files: tuple[str, ...] = ()  # what is needed of a repository: names, and patterns of what is taken if it is there

    @property
    def is_single_file(self) -> bool:
        return "://" in self.source


_PUBLISHED = (
    Model(
        "vdvae",
        "https://openaipublic.blob.core.windows.net/very-deep-vaes-assets/vdvae-assets-2/"
        "imagenet64-iter-1600000-model-ema.th",
        "stage 1: the VDVAE of Child (2021), ImageNet-64, averaged weights",
    ),
    Model(
        "diffusion",
        "Lykon/dreamshaper-7",
        "stage 2: Stable Diffusion 1.5, fine-tuned",
        (
            "model_index.json",
            "scheduler/scheduler_config.json",
            "feature_extractor/*.json",  # 500 bytes: the pipeline is not loaded without it if its index names it
            "text_encoder/config.json",
            "text_encoder/model.safetensors",
            "tokenizer/vocab.json",
            "tokenizer/merges.txt",
            "tokenizer/*.json",
            "unet/config.json",
            "unet/diffusion_pytorch_model.safetensors",
            "vae/config.json",
            "vae/diffusion_pytorch_model.safetensors",
        ),
    ),
    Model(
        "lcm_lora",
        "latent-consistency/lcm-lora-sdv1-5",
        "stage 2: few denoising steps",
        ("pytorch_lora_weights.safetensors",),
    ),
    Model(
        "preview",
        "madebyollin/taesd",
        "stage 2: a fast decoder for previews",
        ("config.json", "diffusion_pytorch_model.safetensors"),
    ),
    Model(
        "clip",
        "openai/clip-vit-large-patch14",
        "the judges' CLIP, and captions for images that have none",
        (
            "config.json",
            "model.safetensors",
            "preprocessor_config.json",
            "tokenizer.json",
            "tokenizer_config.json",
            "special_tokens_map.json",
            "vocab.json",
            "merges.txt",
        ),
    ),
    Model(
        "ip_adapter",
        "h94/IP-Adapter",
        "stage 2: guidance by an image embedding; and the same, gentler on text",
        ("models/ip-adapter_sd15.safetensors", "models/ip-adapter_sd15_light.safetensors"),
    ),
    Model(
        "image_encoder",
        "h94/IP-Adapter",
        "the image embedding that guides stage 2: OpenCLIP ViT-H/14",
        (f"{IMAGE_ENCODER}/config.json", f"{IMAGE_ENCODER}/model.safetensors"),
    ),
)
MODELS = {model.name: model for model in _PUBLISHED}


def read_lock(lock: Path | None = None) -> dict[str, dict]:
    """What was fetched, by name of the model; empty where nothing was. Raises BadFile for a damaged lock."""
    lock = Path(lock or lock_file())
    if not lock.exists():
        return {}
    try:
        return load_json(lock)
    except BadFile as error:
        if not isinstance(error.__cause__, ValueError):
            raise
        raise BadFile(f"{lock} is not JSON: restore it, or delete it and run `{COMMAND}`") from None


def write_lock(name: str, entry: dict, lock: Path | None = None) -> None:
    """Replaces what the lock says of one model."""
    entries = read_lock(lock) | {name: entry}
    save_json(lock or lock_file(), {known: entries[known] for known in MODELS if known in entries})


def locked(name: str, lock: Path | None = None) -> dict | None:
    """The lock's entry of a model; None where it has none, or one of another source."""
    entry = read_lock(lock).get(name)
    return entry if entry and entry["source"] == MODELS[name].source else None


def locate(name: str, lock: Path | None = None) -> Path:
    """The folder of a Hub model, or the file of a single-file one; asks no network.

    Raises BadFile, naming the command that fetches it, where the lock does not know the model, or where one of the
    files that it lists is missing or of another size.
    """
    model, entry = MODELS[name], locked(name, lock)
    if entry is None:
        raise BadFile(f"The model {name!r} ({model.source}) is not in {lock or lock_file()}: fetch it with `{COMMAND}`")
    folder = models_folder() if model.is_single_file else _snapshot(model, entry["revision"])
    for file, size in entry["files"].items():
        _check(model, folder / file, size)
    return folder / next(iter(entry["files"])) if model.is_single_file else folder


def _snapshot(model: Model, revision: str) -> Path:
    from huggingface_hub import snapshot_download  # slow to import; single files do without
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        return Path(
            snapshot_download(model.source, revision=revision, local_files_only=True, allow_patterns=list(model.files))
        )
    except LocalEntryNotFoundError:
        raise BadFile(
            f"The model {model.name!r} ({model.source}, revision {revision[:8]}) is not, or not wholly, "
            f"in the Hugging Face cache: fetch it with `{COMMAND}`"
        ) from None


def _check(model: Model, path: Path, size: int) -> None:
    got = path.stat().st_size if path.exists() else None
    if got != size:
        state = "missing" if got is None else f"{got:,} bytes long, expected {size:,}"
        raise BadFile(f"The model {model.name!r} is incomplete: {path} is {state}; fetch it with `{COMMAND}`")
