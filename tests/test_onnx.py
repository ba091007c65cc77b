"""Flows in ONNX: both directions of every bijector, with an open batch, against torch."""

import functools
import io

import pytest
import torch
from helpers import make_context
from registry import ENTRIES, Entry
from torch import nn
from torch.onnx._internal.exporter._registration import ONNXRegistry

from condflows import ActNorm, Chain, Flow, Logit, LUConv1x1, freeze, glow_step
from condflows.conditioners import MLPConditioner
from condflows.testing import perturb
from condflows.trace import context_tensors, map_context

pytest.importorskip("onnxscript", reason="onnxscript is not installed")
runtime = pytest.importorskip("onnxruntime", reason="onnxruntime is not installed")

OTHERS = {"vector: logit": Entry(lambda: Logit([-9.0, -8.0, -7.0], [7.0, 8.0, 9.0]), 3)}
LEFT_OUT = {
    "vector: chain with an nflows spline coupling",  # indexes by masks: not in torch.export
    "2d: Full-Glow, source and target together", "2d: Full-Glow, together and checkpointed",  # not the library's
    "2d: Full-Glow's target",  # all of it is in the target with side information
}
NAMES = [name for name, entry in ENTRIES.items()
         if name[:2] not in ("1d", "3d") and name not in LEFT_OUT
         and (not entry.heavy or "target" in name or "c_glow_v2" in name)]
MIXTURES_INVERTED = {"vector: mixture coupling given its own kind", "2d: mixture coupling"}
"""The mixtures whose inverse is exported: its Newton steps make large programs.

One is of vectors with a context, one of images. The others differ in their nets and numbers of components alone,
which are exported forward.
"""
CASES = [(name, inverse) for name in (*NAMES, *OTHERS) for inverse in (False, True)
         if not inverse or "mixture" not in name or name in MIXTURES_INVERTED]


@pytest.fixture(scope="module", autouse=True)
def _one_table_of_operations():
    """Let torch read once how its operations are translated, which takes longer than a small export."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ONNXRegistry, "from_torchlib", staticmethod(functools.cache(ONNXRegistry.from_torchlib)))
        yield


class Direction(nn.Module):
    """One direction of a bijector as a function of tensors alone."""

    def __init__(self, bijector, inverse, context):
        super().__init__()
        self.bijector, self.inverse, self.context = bijector, inverse, context

    def forward(self, inputs, *tensors):
        given = iter(tensors)
        context = map_context(lambda _: next(given), self.context)
        return (self.bijector.inverse if self.inverse else self.bijector)(inputs, context)


def session(module, *tensors):
    """Export a module with an open batch, and return a function of tensors that runs it in onnxruntime."""
    batch = torch.export.Dim("batch")
    first, rest = {0: batch}, tuple({0: batch} for _ in tensors[1:])
    star = isinstance(module, Direction) and rest
    shapes = (first, rest) if star else (first, *rest)
    with torch.no_grad():
        program = torch.onnx.export(module, tensors, dynamo=True, dynamic_shapes=shapes, verbose=False)
    file = io.BytesIO()
    program.save(file)
    model = runtime.InferenceSession(file.getvalue(), providers=["CPUExecutionProvider"])
    names = [given.name for given in model.get_inputs()]

    def run(*tensors):
        every = ["inputs", *(f"tensors_{i}" for i in range(len(tensors) - 1))] if star else names
        given = {name: tensor.numpy() for name, tensor in zip(every, tensors, strict=True) if name in names}
        return [torch.as_tensor(result) for result in model.run(None, given)]
    return run


@pytest.mark.parametrize(("name", "inverse"), [
    pytest.param(name, inverse, id=f"{name}-{'inverse' if inverse else 'forward'}") for name, inverse in CASES])
def test_a_bijector_runs_in_onnx(name, inverse):
    entry = (ENTRIES | OTHERS)[name]
    bijector = freeze(perturb(entry.build()))

    def inputs(count):
        values = torch.randn(count, entry.channels, *entry.sizes)
        context = make_context(entry, values, count, torch.float32)
        if inverse:  # in its domain
            values = bijector(values, context)[0].detach()
        return values, context

    values, context = inputs(5)
    module = Direction(bijector, inverse, context)
    run = session(module, values, *context_tensors(context))
    for count in (5, 7, 1):
        values, context = inputs(count)
        tensors = values, *context_tensors(context)
        torch.testing.assert_close(run(*tensors), list(module(*tensors)), rtol=1e-4, atol=1e-4)


def test_densities_and_samples_of_a_flow_run_in_onnx():
    class Sampler(nn.Module):
        def __init__(self, flow):
            super().__init__()
            self.flow = flow

        def forward(self, noise, context):
            return self.flow.transform_from_noise(noise, context)

    nets = MLPConditioner(2, 4, context_features=3), MLPConditioner(3, 8), MLPConditioner(3, 36)
    flow = freeze(perturb(Flow(Chain([ActNorm(4), glow_step(4, *nets), LUConv1x1(4)]), shape=(4,))))
    x, context = torch.randn(5, 4), torch.randn(5, 3)
    density, sampler = session(flow, x, context), session(Sampler(flow), x, context)
    for count in (5, 7, 1):
        x, context = torch.randn(count, 4), torch.randn(count, 3)
        torch.testing.assert_close(density(x, context)[0], flow.log_prob(x, context), rtol=1e-4, atol=1e-4)
        torch.testing.assert_close(sampler(x, context)[0], flow.transform_from_noise(x, context), rtol=1e-4, atol=1e-4)
