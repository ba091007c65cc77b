r"""Nets that predict an operation's parameters from a context. All start at zero output, none fixes a resolution.

Their inputs (of ``MLPConditioner``, the ``asinh`` of its inputs) are bounded softly to +-3 by
:math:`\beta(v) = v / \sqrt{1 + (v/3)^2}`. So inputs far outside of the training data give parameters like those of
training, and a deep flow stays invertible in float32. Scale contexts to order 1.
"""

from condflows.conditioners.contexts import Embed, Select
from condflows.conditioners.gated import GatedConditioner
from condflows.conditioners.image import ConvConditioner, CouplingConditioner, MapConditioner
from condflows.conditioners.pooled import GlobalConditioner
from condflows.conditioners.pyramid import PyramidEncoder
from condflows.conditioners.vector import MLPConditioner

__all__ = ["ConvConditioner", "CouplingConditioner", "Embed", "GatedConditioner", "GlobalConditioner", "MLPConditioner",
           "MapConditioner", "PyramidEncoder", "Select"]
