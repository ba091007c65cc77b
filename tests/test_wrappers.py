"""Torch's wrappers around flows: two processes, with sharded or replicated weights, compute what one does."""

import gc
import sys
from datetime import timedelta

import pytest
import torch
import torch.distributed as dist
from process_table import quick_processes
from torch.distributed.checkpoint.state_dict import StateDictOptions, get_model_state_dict
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard, register_fsdp_forward_method
from torch.nn.parallel import DataParallel, DistributedDataParallel, replicate

from condflows import Chain, Flow, glow_step, initialize, multiscale
from condflows.conditioners import CouplingConditioner, MapConditioner, MLPConditioner, PyramidEncoder
from condflows.testing import perturb
from models import MODELS

X_A, X_B, NOISE = torch.rand(3, 4, 3, 8, 8, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
X, CONTEXT = torch.randn(2, 6, 4, dtype=torch.float64, generator=torch.Generator().manual_seed(2))
PYRAMID = X_A[:, [0, 1, 2, 0, 1], ::2, ::2], X_A[:, [0, 1, 2, 2, 1, 0], ::4, ::4]
METHODS = ["log_prob", "sample", "transform_from_noise"]


def pair_of_flows(checkpoint=False):
    pair = perturb(MODELS["full_glow"](3, (1, 1), 6, context_width=4, grid=2, checkpoint=checkpoint)).double()
    return initialize(pair, X_B, context=X_A)


def vector_flow():
    def step(c):
        return glow_step(c, MLPConditioner(c - c // 2, 2 * (c // 2), 4, hidden=(8,)), MLPConditioner(4, 2 * c))

    return initialize(perturb(Flow(multiscale(4, (2, 1), step, spatial_dims=0))).double(), X, context=CONTEXT)


def steps_of(pair):
    chains = [module for module in pair.modules() if isinstance(module, Chain)]
    return [chain for chain in chains if sum(isinstance(module, Chain) for module in chain.modules()) == 1]


def train(pair, rows):
    """Train by a step for each way to reach the weights: densities of both, of the target alone, and samples."""
    optimizer = torch.optim.Adam(pair.parameters(), lr=1e-2, eps=1e-3)
    x_a, x_b, noise = X_A[rows], X_B[rows], NOISE[rows]
    for loss in (lambda: -sum(pair(x_a=x_a, x_b=x_b)).mean(), lambda: -pair.log_prob(x_b, x_a).mean(),
                 lambda: pair.transform_from_noise(noise, x_a).square().mean()):
        optimizer.zero_grad()
        loss().backward()
        optimizer.step()


@torch.no_grad()
def results(pair):
    samples = pair.sample(2, X_A, generator=torch.Generator().manual_seed(3))
    return {"log_probs": torch.stack(pair(x_a=X_A, x_b=X_B)), "log_prob": pair.log_prob(X_B, X_A), "samples": samples}


# --- what each of two processes runs --------------------------------------------------------------------------------


def sharded(rank, parts, checkpoint):
    """Train a pair whose root, and whose steps or nothing else, are sharded by FSDP."""
    pair = pair_of_flows(checkpoint)
    for value in pair.state_dict().values():  # unlike other wrappers, fully_shard sends no weights and no buffers
        dist.broadcast(value, 0)
    steps, mesh = steps_of(pair) if parts == "steps" else [], init_device_mesh("cpu", (2,))
    for module in [*steps, pair]:
        fully_shard(module, mesh=mesh)
    for step in steps:
        register_fsdp_forward_method(step, "inverse")
    for name in METHODS:
        register_fsdp_forward_method(pair, name)
    train(pair, slice(2 * rank, 2 * rank + 2))
    with pytest.raises(TypeError, match="initialize the flow before wrapping it"):
        initialize(pair, X_B, context=X_A)
    own = sum(value.to_local().numel() for value in pair.parameters())
    weights = get_model_state_dict(pair, options=StateDictOptions(full_state_dict=True))
    return {"own": torch.tensor(own), **weights, **results(pair)}


def averaged(rank):
    """Compute the gradients of a flow of vectors by DistributedDataParallel."""
    flow = vector_flow()
    parallel = DistributedDataParallel(flow)
    rows = slice(3 * rank, 3 * rank + 3)
    parallel(X[rows], context=CONTEXT[rows]).mean().backward()
    return {name: parameter.grad for name, parameter in flow.named_parameters()}


def averaged_pyramid(rank):
    """Compute the gradients of a flow that an encoder gives a pyramid, and of one whose context is a pyramid."""
    encoded, given = pyramid_flow(), Flow(pyramid_flow().transform)
    rows = slice(2 * rank, 2 * rank + 2)
    for flow, context in ((encoded, X_A[rows]), (given, tuple(level[rows] for level in PYRAMID))):
        parallel = DistributedDataParallel(flow)
        parallel(X_B[rows], context).mean().backward()
    return {f"{i}.{name}": parameter.grad for i, flow in enumerate((encoded, given))
            for name, parameter in flow.named_parameters()}


def pyramid_flow():
    def step(c):
        features = 5 if c == 12 else 6
        return glow_step(c, CouplingConditioner(c, 6, features, context_width=4), MapConditioner(features, 2 * c, 4))

    return perturb(Flow(multiscale(3, (1, 1), step), embedding_net=PyramidEncoder(3, (5, 6)))).double()


@pytest.fixture(scope="module")
def two():
    """Run a function in two connected processes, each with a seed of its own, and return what they return."""
    with quick_processes(__name__) as context:
        def run(folder, function, *arguments):
            processes = [context.Process(target=connected, args=(folder, function, rank, *arguments))
                         for rank in range(2)]
            try:
                for process in processes:
                    process.start()
                for process in processes:
                    process.join(100)
                assert [process.exitcode for process in processes] == [0, 0]  # their errors are printed
            finally:
                for process in processes:
                    process.kill()
                    process.join()
            return [torch.load(folder / f"{rank}.pt") for rank in range(2)]

        yield run


def connected(folder, function, rank, *arguments):
    """Run a function in a process of a group of two, and save what it returns."""
    dist.init_process_group("gloo", init_method=f"file://{folder}/group", rank=rank, world_size=2,
                            timeout=timedelta(seconds=60))
    torch.manual_seed(rank)
    returned = function(rank, *arguments)
    torch.save({key: value.detach() for key, value in returned.items()}, f"{folder}/{rank}.pt")
    gc.collect()  # what still uses the group must not outlive it
    dist.destroy_process_group()


def same(got, expected):
    assert got.keys() == expected.keys()
    for name, value in expected.items():
        assert torch.allclose(got[name], value, rtol=1e-8, atol=1e-8), name


# --- sharded weights ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("checkpoint", [False, True])
@pytest.mark.parametrize("parts", ["steps", "root"])
def test_two_processes_of_sharded_weights_compute_what_one_does(parts, checkpoint, two, tmp_path):
    got = two(tmp_path, sharded, parts, checkpoint)
    torch.manual_seed(0)
    pair = pair_of_flows(checkpoint)
    before = {name: value.clone() for name, value in pair.state_dict().items()}
    train(pair, slice(4))
    total = sum(parameter.numel() for parameter in pair.parameters())
    assert [int(each.pop("own")) < 0.6 * total for each in got] == [True, True]
    expected = {**pair.state_dict(), **results(pair)}
    for each in got:
        same(each, expected)
    assert max((value - before[name]).abs().max() for name, value in pair.named_parameters()) > 1e-2


def copies_lists(module, args, kwargs):
    """Replace lists by copies, as FSDP's hooks do where a list holds tensors with gradients."""
    return args, {name: [*value] if isinstance(value, list) else value for name, value in kwargs.items()}


@pytest.mark.parametrize("gradients", [False, True])
def test_a_trace_is_recorded_although_hooks_copy_lists(gradients):
    pair = pair_of_flows()
    with torch.set_grad_enabled(gradients):
        expected = results(pair)
        for module in pair.modules():
            module.register_forward_pre_hook(copies_lists, with_kwargs=True)
        same(results(pair), expected)
        trace = []
        pair.source.log_prob(X_A, record=trace)
        assert len(trace) == 1


# --- replicated weights ---------------------------------------------------------------------------------------------


def test_gradients_of_two_processes_are_those_of_one(two, tmp_path):
    got = two(tmp_path, averaged)
    torch.manual_seed(0)
    flow = vector_flow()
    flow(X, CONTEXT).mean().backward()
    for each in got:
        same(each, {name: parameter.grad for name, parameter in flow.named_parameters()})


def test_gradients_of_pyramids_in_two_processes(two, tmp_path):
    got = two(tmp_path, averaged_pyramid)
    torch.manual_seed(0)
    encoded, given = pyramid_flow(), Flow(pyramid_flow().transform)
    encoded(X_B, X_A).mean().backward()
    given(X_B, PYRAMID).mean().backward()
    for each in got:
        same(each, {f"{i}.{name}": parameter.grad for i, flow in enumerate((encoded, given))
                    for name, parameter in flow.named_parameters()})


@pytest.mark.parametrize("build", [vector_flow, pair_of_flows])
def test_replicas_of_data_parallel(build, monkeypatch):
    """Replicate as DataParallel does on several GPUs; where there are none it calls the flow itself."""
    module, inputs = build(), (X, CONTEXT) if build is vector_flow else (X_A, X_B)
    expected = module(*inputs)
    with monkeypatch.context() as patch:
        patch.setattr(torch.cuda, "is_available", lambda: False)
        parallel = DataParallel(module)
    torch.testing.assert_close(parallel(*inputs), expected)
    with pytest.raises(TypeError, match="initialize the flow before wrapping it"):
        initialize(parallel, *inputs)

    def shared(tensors, devices, detach=False):
        return [[tensor.detach() if detach else tensor.view_as(tensor) for tensor in tensors] for _ in devices]

    def total(outputs):
        return sum(outputs).sum() if isinstance(outputs, tuple) else outputs.sum()

    monkeypatch.setattr(sys.modules[replicate.__module__], "_broadcast_coalesced_reshape", shared)
    replicas = replicate(module, [0, 1])
    gradients = torch.autograd.grad(total(expected), list(module.parameters()))
    halves = zip(replicas, *(tensor.chunk(2) for tensor in inputs), strict=True)
    loss = sum(total(replica(*half)) for replica, *half in halves)
    torch.testing.assert_close(torch.autograd.grad(loss, list(module.parameters())), gradients)
