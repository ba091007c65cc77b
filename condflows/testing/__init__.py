"""The laws of a bijector, as checks for any bijector, and a report of where a flow inverts badly."""

from condflows.testing.laws import check_bijector, perturb
from condflows.testing.report import InvertibilityReport, Place, invertibility_report
from condflows.testing.strategies import batches

__all__ = ["InvertibilityReport", "Place", "batches", "check_bijector", "invertibility_report", "perturb"]
