"""Compiled steps: one graph each, shared by the steps of a kind, with the numbers of eager execution."""

import copy
import io
import shutil
from functools import partial

import pytest
import torch
from torch import nn
from torch._dynamo.testing import CompileCounter, CompileCounterWithBackend
from torch._dynamo.utils import counters
from torch.nn.parallel import DistributedDataParallel

from condflows import (
    ActNorm,
    AffineCoupling,
    Bijector,
    Chain,
    Flow,
    PairedFlow,
    Split,
    compile_steps,
    glow_step,
    initialize,
    multiscale,
)
from condflows.conditioners import ConvConditioner, CouplingConditioner, GlobalConditioner, MLPConditioner
from condflows.testing import perturb
from models import MODELS
from streets.config.kinds import WITHOUT_LIKELIHOOD

FLOWS = [name for name in MODELS if name not in WITHOUT_LIKELIHOOD]


@pytest.fixture(autouse=True)
def _nothing_compiled_before():
    torch._dynamo.reset()
    counters.clear()
    yield
    torch._dynamo.reset()


def coupling_step(c, context=0, **options):
    return glow_step(c, CouplingConditioner(c, 4, context, context_width=4), **options)


def vector_step(c, context=0, **options):
    return glow_step(c, MLPConditioner(c - c // 2, 2 * (c // 2), context, hidden=(4, 4)), **options)


def full_step(c, context, **options):
    net = partial(GlobalConditioner, context, conv_channels=(3, 2), grid=2, hidden=(5,))
    return glow_step(c, CouplingConditioner(c, 4, context, context_width=4), net(2 * c), net(2 * c * c + c), **options)


def small_model(name):
    options = {"glow": {}, "full_glow": {"context_width": 4, "grid": 2}}.get(name, {"context_width": 4})
    return perturb(MODELS[name](3, (1,), 6, **options))


# --- graphs ---------------------------------------------------------------------------------------------------------

X, IMAGE = torch.randn(2, 4, 4, 4), torch.randn(2, 3, 4, 4)
TRACE = coupling_step(4).forward_with_trace(X)[2]
STEPS = {
    "plain": (partial(coupling_step, 4), None),
    "C-Flow's": (partial(coupling_step, 4, 4), TRACE),
    "Full-Glow's": (partial(full_step, 4, 7), TRACE.concat(IMAGE)),
    "without a coupling": (lambda: Chain([ActNorm(4), Split(ActNorm(2))]), None),
}


@pytest.mark.parametrize("kind", STEPS)
def test_a_step_is_one_graph(kind):
    """Count as many graphs as calls, in either direction, with and without a trace: no graph is broken."""
    build, context = STEPS[kind]
    step, counter = build(), CompileCounter()
    compile_steps(step, backend=counter, fullgraph=False)
    calls = (step.forward_with_trace, step.inverse_with_trace) if context is None else (step, step.inverse)
    for graphs, call in enumerate(calls, start=1):
        call(X, context)
        assert counter.frame_count == graphs
    assert not counters["graph_break"]


def test_a_step_of_more_than_one_graph_is_an_error():
    class Breaks(nn.Module):
        def forward(self, first, context=None):
            torch._dynamo.graph_break()
            return torch.cat([first, first], dim=1)

    def step():
        return glow_step(2, Breaks())

    counter = CompileCounter()
    compile_steps(step(), backend=counter, fullgraph=False)(torch.randn(2, 2))
    assert counter.frame_count > 1
    assert counters["graph_break"]
    with pytest.raises(torch._dynamo.exc.Unsupported, match="graph_break"):
        compile_steps(step(), backend="eager")(torch.randn(2, 2))


def test_refused_inputs_are_named_as_without_compilation():
    step = compile_steps(Chain([ActNorm(3)]), backend="eager")
    with pytest.raises(ValueError, match=r"ActNorm expects 3 channels in dimension 1, got shape \(2, 4, 4, 4\)"):
        step(X)


def test_steps_of_a_kind_share_their_compilations():
    """Compile 16 steps of 2 levels and 2 flows, which are of 4 kinds."""
    source = multiscale(4, (4, 4), vector_step, spatial_dims=0)
    target = multiscale(4, (4, 4), lambda c: vector_step(c, c), spatial_dims=0)
    model, counter = PairedFlow(source, target), CompileCounter()
    compile_steps(model, backend=counter)
    for _ in range(2):
        model.zero_grad()
        torch.stack(model(*torch.randn(2, 5, 4))).sum().backward()
        # Twice each: the first step of a level reads data, which needs no gradient, or a view, of other strides.
        assert counter.frame_count == 2 * 4


def test_each_level_has_code_for_its_own_size():
    """Check that levels share no code: the size of one would make dynamo compile the others for any size."""
    inputs = []
    flow = multiscale(1, (1, 1, 1), lambda c: Chain([AffineCoupling(c, ConvConditioner(c))]))
    compile_steps(flow, backend=lambda graph, given: inputs.extend(given) or graph.forward)
    flow(torch.randn(2, 1, 16, 16))
    assert {x.shape[2:] for x in inputs if not isinstance(x, torch.SymInt)} >= {(8, 8), (4, 4), (2, 2)}
    assert not any(isinstance(x, torch.SymInt) for x in inputs)


def test_sizes_may_change():
    step, counter = Chain([AffineCoupling(4, ConvConditioner(4))]), CompileCounter()
    compiled = compile_steps(copy.deepcopy(step), backend=counter)
    for batch, *size in ((4, 8, 8), (3, 8, 8), (2, 8, 8), (2, 8, 12), (2, 16, 8), (5, 16, 24)):
        x = torch.randn(batch, 4, *size)
        for got, want in zip(compiled(x), step(x), strict=True):
            torch.testing.assert_close(got, want)
    assert counter.frame_count <= 4  # as given; any batch; any width; any height too


def test_many_compilations_are_no_error():
    """Compile more often than dynamo's own limit, which is 8."""
    chain, counter = Chain([ActNorm(1)]), CompileCounter()
    compile_steps(chain, backend=counter, dynamic=False)
    for batch in range(1, 10):
        chain(torch.randn(batch, 1))
    assert counter.frame_count == 9


# --- numbers --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FLOWS)
def test_compiled_equals_eager(name):
    eager = small_model(name)
    backend = "aot_eager" if name == "full_glow" else "eager"  # its steps have all that others have
    compiled, counter = copy.deepcopy(eager), CompileCounterWithBackend(backend)
    names = list(compiled.state_dict())
    assert compile_steps(compiled, backend=counter) is compiled
    assert list(compiled.state_dict()) == names
    x_a, x_b = torch.rand(2, 2, 3, 8, 8)
    results, samples = [], []
    for model in (eager, compiled):
        results.append(torch.stack(model(x_a=x_a, x_b=x_b)) if isinstance(model, PairedFlow) else model(x_b, x_a))
        results[-1].sum().backward()
        samples.append(model.sample(1, x_a, generator=torch.Generator().manual_seed(0)))
    assert counter.frame_count == (3 if isinstance(eager, PairedFlow) else 2)  # source; target in both directions
    assert not counters["graph_break"]
    torch.testing.assert_close(*results, rtol=1e-5, atol=1e-4)
    torch.testing.assert_close(*samples, rtol=1e-4, atol=1e-4)
    for (key, want), got in zip(eager.named_parameters(), compiled.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-3, atol=1e-3, msg=lambda m, key=key: f"{key}: {m}")


def test_checkpointing_and_autocast_work_compiled():
    """Compare in bfloat16, to its precision: recomputed activations are not kept, and have the forward pass's casts."""
    x = torch.randn(5, 4, requires_grad=True)

    def run(step):
        step.zero_grad()
        saved = []
        keep = torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t)
        with keep, torch.autocast("cpu", torch.bfloat16):
            outputs, logabsdet = step(x)
        (outputs.square().sum() + logabsdet.sum()).backward()
        return outputs, logabsdet, [p.grad.clone() for p in step.parameters()], len(saved)

    plain = perturb(vector_step(4))
    saving = vector_step(4, checkpoint=True)
    saving.load_state_dict(plain.state_dict())
    want = run(plain)
    counter = CompileCounterWithBackend("aot_eager")
    got, again = run(compile_steps(saving, backend=counter)), run(saving)
    assert counter.frame_count == 1
    assert got[0].dtype == got[1].dtype == torch.float32
    torch.testing.assert_close(got[:2], want[:2], rtol=1e-2, atol=1e-2)
    torch.testing.assert_close(got[2], want[2], rtol=5e-2, atol=5e-2)
    torch.testing.assert_close(got[:3], again[:3], rtol=0, atol=0)
    assert got[3] < want[3] / 4


@pytest.mark.skipif(shutil.which("c++") is None and shutil.which("g++") is None, reason="no C++ compiler")
def test_generated_code_equals_eager():
    eager = perturb(Chain([ActNorm(2), AffineCoupling(2, MLPConditioner(1, 2, hidden=()))]))
    compiled = copy.deepcopy(eager)
    compile_steps(compiled, options={"cpp.vec_isa_ok": False})  # spares trying the processor's vector instructions
    x = torch.randn(3, 2)
    results = [step(x) for step in (eager, compiled)]
    torch.testing.assert_close(*results, rtol=1e-4, atol=1e-5)
    for outputs, logabsdet in results:
        (outputs.square().sum() + logabsdet.sum()).backward()
    for got, want in zip(compiled.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad, rtol=1e-4, atol=1e-5)


# --- whole flows of several sizes -----------------------------------------------------------------------------------


def test_compiled_sampling_of_several_sizes():
    flow, counter = perturb(Flow(multiscale(1, (1, 1), coupling_step))), CompileCounter()
    sample = torch.compile(flow.sample, backend=counter, fullgraph=True)
    for size in ((4, 4), (4, 8), (8, 12), (12, 8)):
        arguments = {"num_samples": 2, "temperature": 0.0, "size": size}
        torch.testing.assert_close(sample(**arguments), flow.sample(**arguments))
    assert counter.frame_count <= 3


# --- what else is done with a model ---------------------------------------------------------------------------------


def flow_of_vectors():
    return Flow(multiscale(4, (2,), vector_step, spatial_dims=0))


def test_copies_and_files():
    flow, counter = flow_of_vectors(), CompileCounter()
    compile_steps(flow, backend=counter)
    x = torch.randn(3, 4)
    want = flow.log_prob(x)
    compiled = counter.frame_count
    twin = copy.deepcopy(flow)
    file = io.BytesIO()
    torch.save(flow, file)
    file.seek(0)
    for other in (twin, torch.load(file, weights_only=False)):
        torch.testing.assert_close(other.log_prob(x), want)
    assert counter.frame_count == compiled  # they are not compiled
    with torch.no_grad():
        for parameter in flow.parameters():
            parameter += 1
    assert not torch.allclose(flow.log_prob(x), want)
    torch.testing.assert_close(twin.log_prob(x), want)
    flow.load_state_dict(twin.state_dict())
    torch.testing.assert_close(flow.log_prob(x), want)


def test_initialize_sees_through_compilation():
    x = 3 + 2 * torch.randn(100, 4)
    want = initialize(flow_of_vectors(), x).log_prob(x)
    torch.manual_seed(0)
    x = 3 + 2 * torch.randn(100, 4)
    flow = compile_steps(flow_of_vectors(), backend="eager")
    with torch.no_grad():
        flow.log_prob(x)  # compiled without the hooks that initialize sets
    torch.testing.assert_close(initialize(flow, x).log_prob(x), want)


def test_wrapped_for_distributed_training(tmp_path):
    torch.distributed.init_process_group("gloo", f"file://{tmp_path}/store", rank=0, world_size=1)
    try:
        eager, counter = flow_of_vectors(), CompileCounterWithBackend("aot_eager")
        wrapped = compile_steps(DistributedDataParallel(copy.deepcopy(eager)), backend=counter)
        x = torch.randn(3, 4, requires_grad=True)
        for model in (eager, wrapped):
            model(x).sum().backward()
    finally:
        torch.distributed.destroy_process_group()
    assert counter.frame_count == 1
    for got, want in zip(wrapped.parameters(), eager.parameters(), strict=True):
        torch.testing.assert_close(got.grad, want.grad)


def test_a_flow_without_steps_is_refused():
    class Own(Bijector):
        pass

    with pytest.raises(ValueError, match="flow with steps, got Own without any Chain"):
        compile_steps(Own())
