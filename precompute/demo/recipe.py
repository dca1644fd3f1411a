"""Everything that changes what the demo is made of: sizes of networks, lengths of trainings, numbers of scenes, the seed."""

from __future__ import annotations

from dataclasses import dataclass, replace

from precompute.demo.train_clip import ClipSize
from precompute.demo.train_codec import CodecSize
from precompute.demo.train_lcm import Distillation
from precompute.demo.train_unet import UNetSize
from precompute.demo.train_vdvae import DEMO_CONFIG
from precompute.demo.training import Schedule
from precompute.fitting.train_network import Training
from recon.decoders.vdvae_layers import VDVAEConfig

GENTLER = 0.3  # learning rate of further training, against that of the first
LONGER = 1.09  # steps of the UNet's further training, against those of the first


@dataclass(frozen=True)
class Settings:
    """Everything that changes the outputs."""

    seed: int = 0
    n_train: int = 9000
    n_test: int = 300
    n_corpus: int = 60_000  # what VDVAE, autoencoder and UNet learn from; the first n_train of them are the subject's
    vdvae_schedule: Schedule = Schedule(
        1095, 1e-3, 96, betas=(0.9, 0.9), clip_norm=200.0, skip_norm=400.0, save_every=500
    )
    vdvae: VDVAEConfig = DEMO_CONFIG
    clip_schedules: tuple[Schedule, Schedule, Schedule] = (
        Schedule(600, 1e-3, 128, weight_decay=0.05),
        Schedule(550, 8e-4, 128, weight_decay=0.05),
        Schedule(1500, 1e-3, 64, weight_decay=0.05),
    )
    clip: ClipSize = ClipSize()
    codec_schedule: Schedule = Schedule(4501, 2e-3, 64, weight_decay=1e-4)
    codec: CodecSize = CodecSize()
    unet_schedules: tuple[Schedule, ...] = (Schedule(2455, 8e-4, 256, save_every=1000),)
    unet: UNetSize = UNetSize()
    adapter_schedule: Schedule = Schedule(1500, 1e-3, 64, weight_decay=0.0, average=0.99)
    lcm_schedule: Schedule = Schedule(450, 1e-3, 256, weight_decay=0.0, average=0.99)
    sharpen_schedule: Schedule = Schedule(500, 5e-4, 128, weight_decay=0.0, average=0.99, save_every=300)
    lcm: Distillation = Distillation()
    checker_schedule: Schedule = Schedule(900, 2e-3, 64, weight_decay=0.02, clip_norm=5.0, average=0.99)
    ranks: tuple[int, int, int] = (192, 96, 96)  # of latents, prompt and image embedding
    mlps: tuple[Training, Training, Training] = (Training(hidden=384), Training(hidden=192), Training(hidden=192))


def further(s: Settings) -> Settings:
    """Of a training that starts from trained networks: gentler, but for the sharpening of the LCM-LoRA."""

    def gentler(schedule: Schedule) -> Schedule:
        return replace(schedule, learning_rate=GENTLER * schedule.learning_rate)

    return replace(
        s,
        vdvae_schedule=gentler(s.vdvae_schedule),
        unet_schedules=tuple(replace(gentler(x), steps=round(LONGER * x.steps)) for x in s.unet_schedules),
        lcm_schedule=gentler(s.lcm_schedule),
    )


_FEW = Schedule(4, 1e-3, 8)
SMOKE = Settings(
    n_train=240,
    n_test=24,
    n_corpus=256,
    vdvae_schedule=Schedule(12, 1e-3, 16, betas=(0.9, 0.9), clip_norm=200.0, skip_norm=400.0),
    vdvae=VDVAEConfig(
        enc_blocks="64d2,32d2,16x1,16d2,8x1,8d2,4d4,1x1",
        dec_blocks="1x1,4m1,4x2,8m4,8x3,16m8,16x4,32m16,64m32",
        width=32,
        custom_widths={64: 8, 32: 16},
        zdim=4,
        bottleneck=0.5,
        n_mixtures=2,
    ),
    clip_schedules=(_FEW, _FEW, _FEW),
    clip=ClipSize(
        text_width=32, text_layers=1, vision_width=32, vision_layers=1, patch=32, head_width=16, embedding=16
    ),
    codec_schedule=_FEW,
    codec=CodecSize(decoder_blocks=(0, 0, 0, 0)),
    unet_schedules=(_FEW,),
    unet=UNetSize(channels=(16, 32, 32), groups=4),
    adapter_schedule=_FEW,
    lcm_schedule=_FEW,
    sharpen_schedule=_FEW,
    lcm=Distillation(walks=100, own_walks=100, rank=4),
    checker_schedule=_FEW,
    ranks=(16, 16, 16),
    mlps=(Training(hidden=32, max_epochs=3, batch=32),) * 3,
)
