"""The names that doctests may use without an import."""

import pytest
import torch

import condflows


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    doctest_namespace["torch"] = torch
    doctest_namespace.update({name: getattr(condflows, name) for name in condflows.__all__})
    torch.manual_seed(0)
