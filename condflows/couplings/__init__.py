"""Couplings: maps of one part of the channels whose parameters are predicted from the other."""

from condflows.couplings.affine import AffineCoupling

__all__ = ["AffineCoupling"]
