"""Checks of bijectors and flows: the laws of a bijector, where a flow inverts badly, whether it is calibrated."""

from condflows.testing.calibration import calibration
from condflows.testing.laws import check_bijector, perturb
from condflows.testing.ranks import Calibration, Coverage
from condflows.testing.report import InvertibilityReport, Place, invertibility_report
from condflows.testing.strategies import batches

__all__ = ["Calibration", "Coverage", "InvertibilityReport", "Place", "batches", "calibration", "check_bijector",
           "invertibility_report", "perturb"]
