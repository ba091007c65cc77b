"""Conditional normalizing flows: every operation of a flow may read a context."""

from condflows import affine, conditioners, testing
from condflows.actnorm import ActNorm
from condflows.affine import sigmoid_affine, soft_affine
from condflows.bijector import Bijector
from condflows.chain import Chain, Inverse
from condflows.compile import compile_steps
from condflows.couplings import AffineCoupling, MixtureCoupling, SplineCoupling
from condflows.denoise import denoise
from condflows.distribution import FlowDistribution
from condflows.fit import fit
from condflows.flow import Flow
from condflows.freeze import freeze
from condflows.glow import by_level, glow_step, multiscale
from condflows.guide import guide
from condflows.history import History
from condflows.images import bits_per_dim, dequantize
from condflows.initialize import initialize
from condflows.logit import Logit
from condflows.luconv import LUConv1x1
from condflows.pairs import PairedFlow
from condflows.precision import bfloat16_nets
from condflows.split import Split
from condflows.squeeze import Squeeze
from condflows.standardize import Standardize
from condflows.trace import Trace
from condflows.variational import VariationalDequantization

__version__ = "0.1.0"

__all__ = [
    "ActNorm", "AffineCoupling", "Bijector", "Chain", "Flow", "FlowDistribution", "History", "Inverse", "Logit",
    "LUConv1x1", "MixtureCoupling", "PairedFlow", "SplineCoupling", "Split", "Squeeze", "Standardize", "Trace",
    "VariationalDequantization", "affine", "bfloat16_nets", "bits_per_dim", "by_level", "compile_steps", "conditioners",
    "denoise", "dequantize", "fit", "freeze", "glow_step", "guide", "initialize", "multiscale", "sigmoid_affine",
    "soft_affine", "testing",
]
