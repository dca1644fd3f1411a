"""The offline half."""

from recon.torchvision_guard import why_unusable

why_unusable()  # before anything here imports transformers or diffusers
