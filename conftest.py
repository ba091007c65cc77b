"""Setup of all tests: one thread for each process and its children, no windows; names that doctests do not import."""

import os

# Sums depend on the number of threads; and several test processes share the cores. Before torch is imported.
os.environ["OMP_NUM_THREADS"] = "1"
os.environ["MPLBACKEND"] = "Agg"  # figures open no windows

import pytest
import torch

import condflows


@pytest.fixture(autouse=True)
def _doctest_names(doctest_namespace):
    doctest_namespace["torch"] = torch
    doctest_namespace.update({name: getattr(condflows, name) for name in condflows.__all__})
    torch.manual_seed(0)
