"""A module is one function on every path: with and without gradients, in pieces, hooked, compiled, under autocast,
exported, and with its layers replaced by others.
"""

import copy
import math
import sys

import pytest
import torch
from helpers import make_context
from nflows.transforms.base import InputOutsideDomain, Transform
from nflows.transforms.nonlinearities import Logit as NflowsLogit
from registry import ENTRIES, small_full_glow
from torch import nn
from torch.nn.utils import parametrizations, prune

from condflows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Flow,
    Inverse,
    LUConv1x1,
    PairedFlow,
    Split,
    Trace,
    compile_steps,
    glow_step,
    multiscale,
)
from condflows.conditioners import CouplingConditioner, GatedConditioner, MapConditioner, MLPConditioner, convnet
from condflows.testing import perturb
from condflows.trace import context_tensors, map_context
from models import MODELS

FLAT = [name for name in ENTRIES if name.startswith(("vector", "2d"))]
LAYERS = (nn.Linear, nn.Conv1d, nn.Conv2d, nn.Conv3d)


# --- what people replace in a net -----------------------------------------------------------------------------------

class Adapter(nn.Module):
    """A frozen layer, plus a learned layer of low rank."""

    def __init__(self, layer):
        super().__init__()
        self.layer = layer.requires_grad_(False)
        outputs, inputs, *kernel = layer.weight.shape
        self.down = type(layer)(inputs, 2, **({"kernel_size": kernel, "padding": layer.padding} if kernel else {}))
        self.up = type(layer)(2, outputs, **({"kernel_size": 1} if kernel else {}))

    def forward(self, inputs):
        return self.layer(inputs) + self.up(self.down(inputs))


class OwnActivation(nn.Module):
    def forward(self, inputs):
        return inputs.tanh()


def replace(module, kind, make):
    for name, child in list(module.named_children()):
        if isinstance(child, kind):
            setattr(module, name, make(child))
        else:
            replace(child, kind, make)
    return module


def each(kind, change):
    def apply(module):
        for layer in [m for m in module.modules() if isinstance(m, kind)]:
            change(layer)
        return module

    return apply


SUBSTITUTES = {
    "as it is": lambda module: module,
    "another activation": lambda module: replace(module, nn.ReLU, lambda _: nn.SiLU()),
    "an activation of one's own": lambda module: replace(module, nn.ReLU, lambda _: OwnActivation()),
    "adapters": lambda module: replace(module, LAYERS, Adapter),
    "pruning": each(LAYERS, lambda layer: prune.l1_unstructured(layer, "weight", 0.5)),
    "weight norm": each(LAYERS, parametrizations.weight_norm),
    "the old weight norm": each(LAYERS, nn.utils.weight_norm),
    "circular padding": each(nn.Conv2d, lambda layer: setattr(layer, "padding_mode", "circular")
                             or setattr(layer, "_reversed_padding_repeated_twice", [n for n in layer.padding[::-1]
                                                                                    for _ in range(2)])),
}
NETS = {  # wide and with many positions, where the library chooses other ways
    "coupling": (lambda: CouplingConditioner(4, 256, checkpoint=True), 2, 32),
    "coupling with context": (lambda: CouplingConditioner(4, 16, 3, context_width=256), 2, 32),
    "map": (lambda: MapConditioner(2, 4, 256), 2, 32),
    "narrow and small": (lambda: CouplingConditioner(4, 8), 2, 6),
    "gated": (lambda: GatedConditioner(4, 8, heads=2), 2, 6),
}


@pytest.mark.parametrize("substitute", SUBSTITUTES)
@pytest.mark.parametrize("name", NETS)
@pytest.mark.filterwarnings("ignore:.*weight_norm. is deprecated")
def test_a_net_is_one_function(name, substitute, monkeypatch):
    build, channels, side = NETS[name]
    torch.manual_seed(0)
    net = SUBSTITUTES[substitute](perturb(build(), 0.05)).double()
    inputs = torch.randn(1, channels, side, side, dtype=torch.float64, requires_grad=True)
    args = (inputs, torch.randn(1, 3, 8, 8, dtype=torch.float64)) if name == "coupling with context" else (inputs,)
    parameters = [p for p in net.parameters() if p.requires_grad]

    def run(large, gradients=True):
        monkeypatch.setattr(convnet, "LARGE", 1 if large else 10**9)
        with torch.set_grad_enabled(gradients):
            outputs = net(*args)
        return outputs, torch.autograd.grad(outputs.square().sum(), [inputs, *parameters]) if gradients else None

    want = run(large=False)
    assert all(gradient.any() for gradient in want[1][1:]), "every parameter that is learned has a gradient"
    for large in (False, True):
        for _ in range(2):  # as in a second step of training
            got = run(large)
            torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
        torch.testing.assert_close(run(large, gradients=False)[0], want[0], rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("large", [False, True])
@pytest.mark.parametrize("name", NETS)
def test_every_layer_of_a_net_is_called_once(name, large, gradients, monkeypatch):
    monkeypatch.setattr(convnet, "LARGE", 1 if large else 10**9)
    build, channels, side = NETS[name]
    net, called = build(), []
    modules = [module for module in net.modules() if not isinstance(module, nn.ModuleList)]
    for module in modules:
        module.register_forward_hook(lambda module, args, outputs: called.append(module))
    with torch.set_grad_enabled(gradients):
        net(torch.randn(1, channels, side, side), *[torch.randn(1, 3, 8, 8)] * (name == "coupling with context"))
    assert sorted(map(id, called)) == sorted(map(id, modules))


def test_what_hooks_keep_is_not_overwritten():
    """Keep inputs and outputs of every layer in hooks, forward and backward, as K-FAC and Captum do."""
    step = perturb(glow_step(4, CouplingConditioner(4, 8, 3, context_width=4)), 0.1)
    kept, backward = [], []
    for module in step.modules():
        if not list(module.children()):
            module.register_forward_hook(lambda m, args, out: kept.append((out, out.detach().clone())) if isinstance(
                out, torch.Tensor) else None)
            module.register_full_backward_hook(lambda m, inputs, outputs: backward.append(m))
    x = torch.randn(2, 4, 6, 6, requires_grad=True)
    step(x, torch.randn(2, 3, 6, 6))[0].square().sum().backward()
    layers = [m for m in step.modules() if isinstance(m, (nn.Conv2d, nn.ReLU))]
    assert len(layers) == 8
    assert all(module in backward for module in layers)
    assert all(torch.equal(output, copied) for output, copied in kept)


# --- every entry of the registry ------------------------------------------------------------------------------------

def entry_of(name, dtype=torch.float64):
    torch.manual_seed(0)
    entry = ENTRIES[name]
    bijector = perturb(entry.build()).to(dtype)
    inputs = torch.randn(2, entry.channels, *entry.sizes, dtype=dtype)
    return bijector, inputs, make_context(entry, inputs, 0, dtype)


def both_ways(bijector, inputs, context):
    outputs, logabsdet = bijector(inputs, context)
    return [outputs, logabsdet, *bijector.inverse(outputs, context)]


@pytest.mark.parametrize("name", ENTRIES)
def test_without_gradients_and_in_pieces(name, monkeypatch):
    bijector, inputs, context = entry_of(name)
    want = both_ways(bijector, inputs, context)
    for large in (10**9, 1):
        monkeypatch.setattr(convnet, "LARGE", large)
        torch.testing.assert_close(both_ways(bijector, inputs, context), want, rtol=1e-10, atol=1e-10)
        with torch.no_grad():
            torch.testing.assert_close(both_ways(bijector, inputs, context), want, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("name", ENTRIES)
def test_with_hooks_and_other_activations(name):
    bijector, inputs, context = entry_of(name)
    replace(bijector, nn.ReLU, lambda _: nn.Tanh())
    want = both_ways(bijector, inputs, context)
    calls = []
    for module in bijector.modules():
        module.register_forward_hook(lambda module, args, result: calls.append(module))
        if "nflows spline" not in name:  # which changes what its net returns in place
            module.register_full_backward_hook(lambda module, inputs, outputs: None)
    torch.testing.assert_close(both_ways(bijector, inputs.requires_grad_(), context), want, rtol=1e-10, atol=1e-10)
    not_called = {m for m in bijector.modules() if isinstance(m, Transform)} - set(calls)
    inverted = {m.bijector for m in bijector.modules() if isinstance(m, Inverse)}
    assert all(any(m in i.modules() for i in inverted) for m in not_called)
    with torch.no_grad():
        torch.testing.assert_close(both_ways(bijector, inputs, context), want, rtol=1e-10, atol=1e-10)


TORCH = tuple(map(int, torch.__version__.split("+")[0].split(".")[:2]))


@pytest.mark.skipif(TORCH < (2, 6), reason="torch 2.4 cannot export reshapes of an open size")
@pytest.mark.parametrize("name", [name for name in FLAT if "nflows spline" not in name])
def test_exported_for_any_batch(name):
    """Export every entry except the spline of nflows, which branches on values."""
    bijector, inputs, context = entry_of(name)

    class Exported(nn.Module):
        def __init__(self):
            super().__init__()
            self.bijector = bijector

        def forward(self, inputs, tensors):
            left = iter(tensors)
            return both_ways(self.bijector, inputs, map_context(lambda _: next(left), context))

    batch = torch.export.Dim("batch", min=2, max=64)
    module, tensors = Exported(), context_tensors(context)
    shapes = {0: batch}, [{0: batch} for _ in tensors]
    program = torch.export.export(module, (inputs, tensors), dynamic_shapes=shapes, strict=False).module()
    for rows in (3, 5):
        args = inputs[:1].repeat_interleave(rows, 0), [t.repeat_interleave(rows, 0) for t in (u[:1] for u in tensors)]
        torch.testing.assert_close(program(*args), module(*args), rtol=1e-10, atol=1e-10)


@pytest.mark.skipif(TORCH < (2, 13), reason="of older releases 2.6 was tried, which cannot keep the sizes open")
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("name", ["full_glow", "glow"])
def test_densities_exported_for_any_batch_and_size(name, checkpoint):
    options = {} if name == "glow" else {"context_width": 4}
    model = perturb(MODELS[name](3, (1, 1), 6, checkpoint=checkpoint, **options), 0.05).double()

    def images(*shape):
        return tuple(torch.rand(2, *shape, dtype=torch.float64))[:2 if isinstance(model, PairedFlow) else 1]

    batch, height, width = (torch.export.Dim(name, min=2, max=64) for name in ("batch", "height", "width"))
    args = images(3, 3, 16, 8)
    shapes = tuple({0: batch, 2: 4 * height, 3: 4 * width} for _ in args)
    program = torch.export.export(model, args, dynamic_shapes=shapes, strict=False).module()
    for shape in ((5, 3, 16, 8), (2, 3, 8, 20)):
        args = images(*shape)
        torch.testing.assert_close(program(*args), model(*args), rtol=1e-10, atol=1e-8)


@pytest.mark.parametrize("name", [name for name in FLAT if any(
    part in name for part in ("step", "chain", "target")) and "empty" not in name])
def test_compiled(name):
    torch._dynamo.reset()
    bijector, inputs, context = entry_of(name)
    replace(bijector, nn.ReLU, lambda _: nn.Tanh())
    want = both_ways(bijector, inputs, context)
    weights = [torch.randn_like(value) for value in want]

    def gradients(results):
        value = sum((weight * result).sum() for weight, result in zip(weights, results, strict=True))
        return torch.autograd.grad(value, list(bijector.parameters()), allow_unused=True)

    expected = gradients(want)
    compile_steps(bijector, backend="aot_eager", fullgraph="nflows" not in name, dynamic=False)
    got = both_ways(bijector, inputs, context)
    torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close(gradients(got), expected, rtol=1e-7, atol=1e-7)
    torch._dynamo.reset()


@pytest.mark.parametrize("name", ENTRIES)
def test_under_autocast_with_and_without_gradients(name):
    bijector, inputs, context = entry_of(name, torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        want = bijector(inputs, context)
        with torch.no_grad():
            got = bijector(inputs, context)
    torch.testing.assert_close(got, want, rtol=1e-5, atol=1e-5)


# --- flows and pairs ------------------------------------------------------------------------------------------------

def unhooked(flow, call):
    """Return the modules that have a ``forward`` but are not called in a call of the flow."""
    called = set()
    handles = [m.register_forward_hook(lambda module, args, result: called.add(module)) for m in flow.modules()]
    call()
    for handle in handles:
        handle.remove()
    silent = {module for module in flow.modules() if isinstance(module, Inverse)}
    own = {m for m in flow.modules() if not isinstance(m, (nn.ModuleList, nn.ModuleDict))}
    nflows = {getattr(m, name) for m in flow.modules() if isinstance(m, Flow) for name in ("_distribution",
                                                                                          "_embedding_net")}
    return own - called - nflows - {inner for inverse in silent for inner in inverse.bijector.modules()}


@pytest.mark.parametrize("gradients", [False, True])
@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("name", ["full_glow", "c_flow", "dual_glow"])
def test_hooks_of_every_module_of_a_pair_fire(name, checkpoint, gradients):
    pair = perturb(MODELS[name](3, (1, 1), 6, context_width=4, checkpoint=checkpoint))
    x_a, x_b = torch.rand(2, 2, 3, 8, 8)
    want = pair(x_a=x_a, x_b=x_b)
    with torch.set_grad_enabled(gradients):
        for call in (lambda: pair.log_probs(x_a=x_a, x_b=x_b), lambda: pair.log_prob(x_b, x_a)):
            assert unhooked(pair, call) <= {pair}
        assert not unhooked(pair, lambda: pair(x_a=x_a, x_b=x_b))
        assert not unhooked(pair.source, lambda: pair.sample(1, x_a)) - {pair.target}
        torch.testing.assert_close(pair(x_a=x_a, x_b=x_b), want)


@pytest.mark.parametrize("where", ["source", "source.transform", "source.transform.bijectors.1",
                                   "target", "target.transform.bijectors.1", "target.transform.bijectors.2"])
@pytest.mark.parametrize("kind", ["hook", "pre-hook", "backward", "override", "patch"])
def test_one_composition_of_a_pair_that_is_changed(where, kind):
    """Change one module of a pair in some way, and see the effect on every path."""
    pair = perturb(small_full_glow(checkpoint=True), 0.1)
    module = pair
    for name in where.split("."):
        module = module[int(name)] if name.isdigit() else getattr(module, name)
    calls = []
    x_a, x_b = torch.rand(2, 2, 3, 8, 8)
    plain = [value.detach() for value in pair(x_a=x_a, x_b=x_b)]

    def add(value):
        calls.append(value)
        return (value[0], value[1] + 1) if isinstance(value, tuple) else value + 1

    if kind == "hook":
        module.register_forward_hook(lambda module, args, result: add(result))
    elif kind == "pre-hook":
        module.register_forward_pre_hook(lambda module, args: calls.append(args))
    elif kind == "backward":
        module.register_full_backward_hook(lambda module, *_: calls.append(module))
    elif kind == "override":
        class Changed(type(module)):
            def forward(self, *args, **kwargs):
                return add(super().forward(*args, **kwargs))

        module.__class__ = Changed
    else:
        forward = module.forward
        module.forward = lambda *args, **kwargs: add(forward(*args, **kwargs))
    more = torch.tensor([float(where.startswith("source")), float(where.startswith("target"))])
    more = more * (kind in ("hook", "override", "patch"))
    for gradients in (True, False):
        calls.clear()
        with torch.set_grad_enabled(gradients):
            results = pair(x_a=x_a, x_b=x_b)
        torch.testing.assert_close(torch.stack(results).detach() - torch.stack(plain),
                                   more[:, None].expand(2, 2), rtol=0, atol=1e-4)
        if gradients:
            sum(results).sum().backward()
        assert calls or (kind == "backward" and not gradients)
    if kind in ("hook", "override", "patch"):
        torch.testing.assert_close(pair.log_prob(x_b, x_a) - plain[1], more[1].expand(2), rtol=0, atol=1e-4)


def vectors(context):
    net = MLPConditioner
    return Chain([ActNorm(2, net(2, 4) if context else None), AffineCoupling(2, net(1, 2, 2 if context else 0))])


class Shifted(Chain):
    """A chain whose methods do not take ``record``."""

    def forward(self, inputs, context=None):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs, logabsdet + 1

    def inverse(self, inputs, context=None):
        outputs, logabsdet = super().inverse(inputs, context)
        return outputs, logabsdet - 1


class ShiftedWithTrace(Shifted):
    def forward_with_trace(self, inputs, context=None):
        return super().forward_with_trace(inputs, context)


class ShiftedByAnything(Chain):
    def forward(self, *args, **kwargs):
        outputs, logabsdet = super().forward(*args, **kwargs)
        return outputs, logabsdet + 1

    def inverse(self, *args, **kwargs):
        outputs, logabsdet = super().inverse(*args, **kwargs)
        return outputs, logabsdet - 1


class ShiftedAndSwallowing(Chain):
    """A chain whose methods take any keyword and pass none on."""

    def forward(self, inputs, context=None, **others):
        outputs, logabsdet = super().forward(inputs, context)
        return outputs, logabsdet + 1

    def inverse(self, inputs, context=None, **others):
        outputs, logabsdet = super().inverse(inputs, context)
        return outputs, logabsdet - 1


def patched(parts):
    chain = Chain(parts)
    for name, more in (("forward", 1), ("inverse", -1)):
        method = getattr(chain, name)

        def replacement(inputs, context=None, method=method, more=more):
            outputs, logabsdet = method(inputs, context)
            return outputs, logabsdet + more

        setattr(chain, name, replacement)
    return chain


class FlowOfLogProb(Flow):
    def log_prob(self, inputs, context=None):
        return super().log_prob(inputs, context) + 1


class FlowThatSwallows(Flow):
    def forward(self, inputs, context=None, **others):
        return super().forward(inputs, context) + 1


class FlowOfForward(Flow):
    def forward(self, inputs, context=None):
        return super().forward(inputs, context) + 1


@pytest.mark.parametrize("kind", [Shifted, ShiftedWithTrace, ShiftedByAnything, ShiftedAndSwallowing, patched,
                                  FlowOfLogProb, FlowOfForward, FlowThatSwallows])
def test_a_source_whose_methods_know_of_no_record(kind):
    """Check that overridden or replaced methods take effect on every path, and that the trace is the same."""
    plain = perturb(PairedFlow(vectors(0), Flow(vectors(1), (2,))), 0.1)
    of_flow = isinstance(kind, type) and issubclass(kind, Flow)
    source = kind(plain.source.transform if of_flow else plain.source.transform.parts)
    pair = PairedFlow(source, plain.target)
    x_a, x_b = torch.randn(2, 3, 2)
    want = plain(x_a=x_a, x_b=x_b)
    for gradients in (True, False):
        with torch.set_grad_enabled(gradients):
            torch.testing.assert_close(pair(x_a=x_a, x_b=x_b), (want[0] + 1, want[1]))
            torch.testing.assert_close(pair.log_prob(x_b, x_a), want[1])
            assert pair.sample(4, x_a).shape == (3, 4, 2)
    if not of_flow:
        outer = Chain([source])
        outputs, logabsdet, trace = outer.forward_with_trace(x_a)
        assert [entry.shape for entry in trace[0]] == [(3, 2)] * 2
        torch.testing.assert_close(outer(x_a)[1], logabsdet)
        torch.testing.assert_close(outer.inverse_with_trace(outputs)[1], -logabsdet)


class Own(Bijector):
    """A composition as in the documentation, which defines its parts and records its trace itself."""

    def __init__(self):
        super().__init__()
        self.part = LUConv1x1(2)

    @property
    def parts(self):
        return [self.part]

    def forward(self, inputs, context=None):
        return self.forward_with_trace(inputs, context)[:2]

    def forward_with_trace(self, inputs, context=None):
        outputs, logabsdet, entry = self.part.forward_with_trace(inputs)
        return outputs, logabsdet, Trace([entry])

    def inverse(self, inputs, context=None):
        return self.part.inverse(inputs)


@pytest.mark.parametrize("wrapped", [lambda part: part, lambda part: Chain([part]), lambda part: Split(part)])
def test_hooks_of_a_composition_of_ones_own_run_while_it_is_recorded(wrapped):
    own = Own()
    flow, calls = Flow(Chain([wrapped(own)])), []
    own.register_forward_hook(lambda module, args, result: calls.append(1) or (result[0], result[1] + 1))
    x = torch.randn(3, 4 if isinstance(flow.transform.parts[0], Split) else 2)
    target = Flow(Chain([wrapped(Chain([ActNorm(2)]))]))
    torch.testing.assert_close(PairedFlow(flow, target)(x, x)[0], flow.log_prob(x))
    assert len(calls) == 2


def test_convolutions_that_were_patched_within_are_not_taken_in_pieces(monkeypatch):
    """Patch convolutions to pad with the opposite side, as for images that repeat seamlessly."""
    monkeypatch.setattr(convnet, "LARGE", 1)
    net = perturb(CouplingConditioner(4, 8), 0.3)

    def around(layer, images, weight, bias):
        return nn.functional.conv2d(nn.functional.pad(images, (1, 1, 1, 1), mode="circular"), weight, bias)

    for layer in (net.net[0], net.net[4]):
        layer._conv_forward = around.__get__(layer, nn.Conv2d)
    images = torch.randn(1, 2, 64, 8)
    with torch.no_grad():
        without = net(images)
    torch.testing.assert_close(without, net(images))


@pytest.mark.parametrize("side", [16, 32])
def test_function_transforms_at_any_size(side):
    """Compare function transforms, also at sizes at which images are laid out channels-last."""
    flow = perturb(Flow(glow_step(4, CouplingConditioner(4, 4))), 0.1)
    images = torch.rand(2, 4, side, side)
    forward_mode = torch.func.jacfwd(lambda t: flow(images * t))(torch.ones(()))
    torch.testing.assert_close(forward_mode, torch.func.jacrev(lambda t: flow(images * t))(torch.ones(())))
    weights = dict(flow.named_parameters())

    def density(weights, image):
        return torch.func.functional_call(flow, weights, (image[None],))[0]

    each = torch.func.vmap(torch.func.grad(density), (None, 0))(weights, images)
    together = torch.func.grad(lambda weights: torch.func.functional_call(flow, weights, (images,)).sum())(weights)
    for name, gradient in together.items():
        torch.testing.assert_close(each[name].sum(0), gradient, rtol=1e-3, atol=1e-2)


@pytest.mark.parametrize("make", [
    lambda: (Flow(multiscale(2, (1,), ActNorm)), (torch.randn(5, 2, 8, 12),)),
    lambda: (Flow(ActNorm(2, MLPConditioner(3, 4)), (2,)), (torch.randn(3, 2), torch.randn(3, 3))),
    lambda: (small_full_glow(), tuple(torch.rand(2, 5, 3, 8, 4)))])
def test_whole_flows_compiled_for_any_size(make):
    torch._dynamo.reset()
    flow, args = make()
    compiled = torch.compile(copy.deepcopy(flow), backend="eager", dynamic=True, fullgraph=True)
    torch.testing.assert_close(compiled(*args), flow(*args))
    torch._dynamo.reset()


def test_nets_can_be_sliced():
    net = perturb(CouplingConditioner(4, 8)).net
    images = torch.randn(1, 2, 4, 4)
    torch.testing.assert_close(net[2:](net[:2](images)), net(images))


def test_a_global_hook_sees_every_module_of_a_pair():
    pair, called = small_full_glow(checkpoint=True), set()
    handle = nn.modules.module.register_module_forward_hook(lambda module, args, result: called.add(module))
    try:
        with torch.no_grad():
            pair(*torch.rand(2, 2, 3, 8, 8))
    finally:
        handle.remove()
    assert {m for m in pair.modules() if isinstance(m, (Chain, Split, Flow))} <= called


@pytest.mark.parametrize("record", [False, True])
def test_a_hook_may_change_what_a_composition_returns(record):
    """Let a hook change the outputs, also in a recorded pass, which returns a trace as well."""
    inner = Chain([ActNorm(2)])
    inner.register_forward_hook(lambda module, args, result: (2 * result[0], result[1] + 2 * math.log(2)))
    chain, x = Chain([Split(inner)]), torch.randn(3, 4)
    outputs, logabsdet = chain.forward_with_trace(x)[:2] if record else chain(x)
    assert torch.equal(outputs, torch.cat([2 * x[:, :2], x[:, 2:]], dim=1))
    assert torch.equal(logabsdet, torch.full((3,), 2 * math.log(2)))


def test_compiled_steps_run_the_hooks_of_inner_nets():
    torch._dynamo.reset()
    step = compile_steps(glow_step(4, MLPConditioner(2, 4)), backend="eager")
    x = torch.randn(3, 4)
    step(x)
    called = []
    handle = step.parts[2].conditioner.net[0].register_forward_hook(lambda *call: called.append(call))
    step(x)
    step.inverse(x)
    step.forward_with_trace(x)
    assert len(called) == 3
    handle.remove()
    step(x)
    assert len(called) == 3
    assert type(copy.deepcopy(step)) is Chain
    torch._dynamo.reset()


# --- how far it is from a call to the maths -------------------------------------------------------------------------

class Frames(nn.Module):
    """An ``affine`` of a coupling that counts the library's stack frames between the user's call and here."""

    def forward(self, raw_scale, raw_shift):
        frame, self.depth = sys._getframe(), 0
        while frame:
            self.depth += "/condflows/" in frame.f_code.co_filename
            frame = frame.f_back
        return torch.zeros_like(raw_scale), raw_shift


@pytest.mark.parametrize("gradients", [False, True])
def test_few_methods_lie_between_a_call_and_the_maths(gradients):
    frames = Frames()
    flow = Flow(Chain([AffineCoupling(2, MLPConditioner(1, 2), frames)]), (2,))
    with torch.set_grad_enabled(gradients):
        for call in (flow, flow.log_prob, flow.transform_to_noise, flow.transform_from_noise):
            call(torch.randn(3, 2))
            assert frames.depth <= 4
        pair = MODELS["full_glow"](3, (1, 1, 1, 1), 4, context_width=4, affine=frames)
        pair.log_probs(*torch.rand(2, 1, 3, 16, 16))
        assert frames.depth <= 20
        pair.log_prob(*torch.rand(2, 1, 3, 16, 16))
        assert frames.depth <= 20


def test_a_pair_of_bijectors_without_parts():
    pair = PairedFlow(ActNorm(2), ActNorm(2, MLPConditioner(2, 4)))
    assert not unhooked(pair, lambda: pair(*torch.randn(2, 3, 2)))


def test_a_composition_of_ones_own_in_a_recorded_pass():
    assert repr(Chain([Own(), ActNorm(2)]).forward_with_trace(torch.randn(3, 2))[2]) == "Trace([[*], *])"


# --- transforms of functions, and domains ---------------------------------------------------------------------------


@pytest.mark.parametrize("build", ["step", "pair"])
def test_checkpointed_chains_work_in_transforms_of_functions(build):
    """Compare gradients of torch.func, which has no checkpoints, with those of autograd."""
    if build == "step":
        module = perturb(glow_step(2, MLPConditioner(1, 2), checkpoint=True)).double()
        arguments = (torch.randn(3, 2, dtype=torch.float64),)

        def loss(parameters, *arguments):
            return torch.func.functional_call(module, parameters, arguments)[1].sum()
    else:
        module = perturb(small_full_glow(checkpoint=True)).double()
        arguments = torch.rand(2, 2, 3, 4, 4, dtype=torch.float64).unbind()

        def loss(parameters, *arguments):
            return sum(torch.func.functional_call(module, parameters, arguments)).sum()

    parameters = dict(module.named_parameters())
    got = torch.func.grad(loss)(parameters, *arguments)
    wanted = torch.autograd.grad(loss(parameters, *arguments), list(parameters.values()), allow_unused=True)
    for name, want in zip(parameters, wanted, strict=True):
        torch.testing.assert_close(got[name], torch.zeros_like(got[name]) if want is None else want)


@pytest.mark.parametrize("record", [False, True])
@pytest.mark.parametrize("build", [
    lambda logit: Chain([ActNorm(3), logit]), lambda logit: Inverse(Inverse(logit)), lambda logit: Split(logit),
    lambda logit: Split(ActNorm(1), logit)])
def test_inputs_outside_of_the_domain_of_an_nflows_transform_are_explained(build, record):
    bijector = build(NflowsLogit())
    inputs = torch.tensor([[0.5, 0.5, 0.5], [2.0, 0.5, 0.5]])
    run = bijector.forward_with_trace if record else bijector
    inputs = inputs[:, :2] if isinstance(bijector, Split) and bijector.prior is not None else inputs
    with pytest.raises(InputOutsideDomain, match=r"Logit of nflows is not defined .* 0\.5 to 2; condflows\.Logit"):
        run(inputs)
    with pytest.raises(InputOutsideDomain, match="Logit of nflows is not defined"):
        Flow(NflowsLogit()).log_prob(inputs)
