"""Bundles some of whose decoders are absent."""

from dataclasses import replace

from recon.bundle.bundle import Bundle

FIELDS = {"vdvae": "vdvae", "diffusion": "open_stage_2"}


def without(bundle: Bundle, *decoders: str) -> Bundle:
    """The bundle without "vdvae", "diffusion" or both, as it opens where they have not been fetched."""
    absent = {name: f"The model {name!r} is not there: fetch it" for name in decoders}
    return replace(bundle, absent=absent, **{FIELDS[name]: None for name in decoders})
