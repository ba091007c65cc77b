"""Couplings: maps of one part of the channels whose parameters are predicted from the other."""

from condflows.couplings.affine import AffineCoupling
from condflows.couplings.mixture import MixtureCoupling
from condflows.couplings.spline import SplineCoupling

__all__ = ["AffineCoupling", "MixtureCoupling", "SplineCoupling"]
