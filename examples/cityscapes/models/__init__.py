"""The published models, one file each."""

from models.full_glow import full_glow

MODELS = {"full_glow": full_glow}
