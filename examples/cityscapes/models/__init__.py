"""Models of the Full-Glow paper by name, one file for each paper, one of our own, and flow matching beside them."""

from collections.abc import Callable
from typing import Any

from models.c_flow import c_flow
from models.c_glow import c_glow_v1, c_glow_v2
from models.dual_glow import dual_glow
from models.encoded_glow import encoded_glow
from models.flow_matching import flow_matching
from models.full_glow import full_glow
from models.glow import glow
from models.pix2pix import pix2pix

MODELS: dict[str, Callable[..., Any]] = {
    builder.__name__: builder for builder in (
        full_glow, c_glow_v1, c_glow_v2, dual_glow, c_flow, glow, pix2pix, encoded_glow, flow_matching)
}
