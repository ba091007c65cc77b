"""Pyramids as contexts, the encoder that makes them, and nets that embed the contexts of flows."""

import copy
import warnings

import pytest
import torch
import torch.nn.functional as F
from registry import ENTRIES
from torch import nn

from condflows import (
    ActNorm,
    AffineCoupling,
    Chain,
    Flow,
    PairedFlow,
    Standardize,
    Trace,
    compile_steps,
    glow_step,
    initialize,
    multiscale,
)
from condflows.conditioners import (
    CouplingConditioner,
    GatedConditioner,
    GlobalConditioner,
    MapConditioner,
    MLPConditioner,
    PyramidEncoder,
    Select,
)
from condflows.testing import invertibility_report, perturb
from condflows.trace import map_context

FEATURES = (5, 6)


def rand(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def step(c, wrap=lambda net: net, checkpoint=False):
    features = FEATURES[c > 12]
    return glow_step(c, wrap(CouplingConditioner(c, 6, features, context_width=4)), checkpoint=checkpoint,
                     actnorm=wrap(MapConditioner(features, 2 * c, 4)),
                     conv=wrap(GlobalConditioner(features, 2 * c * c + c, grid=2, hidden=(5,))))


def bijector(**options):
    return perturb(multiscale(3, (1, 1), lambda c: step(c, **options))).double()


def maps(batch=2, height=8, width=16):
    return tuple(rand(batch, f, height >> i + 1, width >> i + 1) for i, f in enumerate(FEATURES))


def encoded_flow(**options):
    encoder = PyramidEncoder(1, FEATURES, classes=7, **options)
    return perturb(Flow(multiscale(3, (1, 1), step), embedding_net=encoder)).double()


def test_each_conditioner_reads_the_map_of_its_inputs_size():
    pyramid = maps()
    for net, size in ((MapConditioner(5, 8, 4), (4, 8)), (MapConditioner(6, 8, 4), (2, 4))):
        net, inputs = perturb(net).double(), rand(2, 4, *size)
        own = pyramid[0] if size == (4, 8) else pyramid[1]
        actnorm = ActNorm(4, net).double()
        for order in (pyramid, pyramid[::-1], list(pyramid)):
            assert torch.equal(actnorm(inputs, order)[0], actnorm(inputs, own)[0])
        for net in (CouplingConditioner(4, 6, own.shape[1], context_width=4), GatedConditioner(4, 6, own.shape[1])):
            coupling = AffineCoupling(4, perturb(net)).double()
            assert torch.equal(coupling(inputs, pyramid)[0], coupling(inputs, own)[0])
            other = map_context(lambda x: -x, pyramid)
            assert not torch.equal(coupling(inputs, pyramid)[0], coupling(inputs, other)[0])


@pytest.mark.parametrize(("size", "chosen"), [((8, 16), 0), ((6, 12), 0), ((3, 5), 1), ((2, 6), 1), ((1, 1), 1)])
def test_the_nearest_map_is_resized(size, chosen):
    pyramid, inputs = maps(), rand(2, 4, *size)
    level = pyramid[chosen]
    resized = F.interpolate(level, size=size, mode="area")
    for build in (lambda: ActNorm(4, MapConditioner(level.shape[1], 8, 4)),
                  lambda: ActNorm(4, GlobalConditioner(level.shape[1], 8, grid=2)),
                  lambda: AffineCoupling(4, CouplingConditioner(4, 6, level.shape[1], context_width=4))):
        operation = perturb(build()).double()
        torch.testing.assert_close(operation(inputs, pyramid)[0], operation(inputs, resized)[0])


def test_tuples_that_are_no_pyramids_are_refused_as_before():
    image = rand(2, 5, 4, 8)
    for context in ((image, rand(2, 3)), (image, image), ()):
        with pytest.raises(TypeError, match=r"CouplingConditioner expects one tensor as context, got a tuple; put "
                                            r"conditioners.Select"):
            CouplingConditioner(4, 6, 5).double()(rand(2, 2, 4, 8), context)
    with pytest.raises(ValueError, match="with 4 channels in dimension 1"):
        AffineCoupling(4, CouplingConditioner(4, 6, 4)).double()(rand(2, 4, 4, 8), maps())


def test_a_part_of_a_context_may_be_a_pyramid():
    pyramid, pose = maps(), rand(2, 3)
    plain = bijector()
    selected = bijector(wrap=lambda net: Select("maps", net))
    selected.load_state_dict({name.replace("conditioner.", "conditioner.conditioner."): value
                              for name, value in plain.state_dict().items()})
    inputs = rand(2, 3, 8, 16)
    want = plain(inputs, pyramid)
    for got in (selected(inputs, {"maps": pyramid, "pose": pose}), selected(inputs, {"maps": list(pyramid)})):
        assert all(torch.equal(a, b) for a, b in zip(got, want, strict=True))
    # Joined with a vector, and standardized.
    for wrap, channels in ((lambda net: Select(["maps", "pose"], net), 5 + 3),
                           (lambda net: Select("maps", Standardize(5).before(net)), 5)):
        for operation in (ActNorm(4, wrap(MapConditioner(channels, 8, 4))),
                          AffineCoupling(4, wrap(CouplingConditioner(4, 6, channels, context_width=4)))):
            operation, x = perturb(operation).double(), rand(2, 4, 4, 8)
            got = operation(x, {"maps": pyramid, "pose": pose})[0]
            assert torch.equal(got, operation(x, {"maps": pyramid[0], "pose": pose})[0])


def test_a_users_own_net_gets_the_whole_pyramid():
    class Own(nn.Module):
        def forward(self, context):
            self.seen = context
            return torch.zeros(2, 8)

    net, pyramid = Own(), maps()
    ActNorm(4, net)(torch.randn(2, 4, 4, 8), pyramid)
    assert net.seen is pyramid


class Doubled(MapConditioner):
    """A net of a user who overrides forward, and knows of no sizes."""

    def forward(self, context):
        return 2 * super().forward(context[0])


def test_an_overridden_forward_is_called_as_it_was_written():
    assert ActNorm(4, Doubled(5, 8)).double()(rand(2, 4, 4, 8), maps())[0].shape == (2, 4, 4, 8)


def test_rows_of_a_condition_serve_several_inputs():
    flow, pyramid, inputs = bijector(), maps(), rand(6, 3, 8, 16)
    repeated = map_context(lambda x: x.repeat_interleave(3, 0), pyramid)
    for got, want in zip(flow(inputs, pyramid), flow(inputs, repeated), strict=True):
        torch.testing.assert_close(got, want, rtol=1e-9, atol=1e-9)


def test_checkpoints_change_nothing():
    plain, checkpointed = bijector(), bijector(checkpoint=True)
    checkpointed.load_state_dict(plain.state_dict())
    inputs, pyramid = rand(2, 3, 8, 16), tuple(x.requires_grad_() for x in maps())
    gradients = []
    for flow in (plain, checkpointed):
        outputs, logabsdet = flow(inputs, pyramid)
        gradients.append(torch.autograd.grad(outputs.square().sum() - logabsdet.sum(), [*flow.parameters(), *pyramid]))
    for got, want in zip(*gradients, strict=True):
        torch.testing.assert_close(got, want)


def test_side_information_of_a_trace():
    trace = Trace([rand(2, 3, 4, 8), Trace([rand(2, 3, 2, 4)])])
    pyramid = maps()
    joined = list(trace.concat(pyramid).leaves())
    assert [leaf.shape for leaf in joined] == [(2, 8, 4, 8), (2, 9, 2, 4)]
    assert torch.equal(joined[0][:, 3:], pyramid[0])
    assert torch.equal(joined[1][:, 3:], pyramid[1])
    with pytest.raises(ValueError, match="batch size 2, got 3"):
        trace.concat(maps(3))


def test_a_pyramid_beside_the_image_of_a_pair():
    def conditional(c):
        return glow_step(c, CouplingConditioner(c, 6, c + FEATURES[c > 12], context_width=4))

    def plain(c):
        return glow_step(c, CouplingConditioner(c, 6))

    pair = PairedFlow(Flow(multiscale(3, (1, 1), plain)), Flow(Chain(multiscale(3, (1, 1), conditional).bijectors)))
    pair = perturb(pair).double()
    pair.target.shape = (3, None, None)
    # The squeezes at the ends have entries of other sizes, which nothing reads.
    x_a, x_b, side = rand(2, 3, 8, 16), rand(2, 3, 8, 16), maps()
    log_prob = pair.log_prob(x_b, (x_a, side))
    torch.testing.assert_close(pair.log_probs(x_a=x_a, x_b=x_b, side=side)[1], log_prob)
    assert pair.sample(2, (x_a, side)).shape == (2, 2, 3, 8, 16)
    other = map_context(lambda x: -x, side)
    assert not torch.allclose(pair.log_prob(x_b, (x_a, other)), log_prob)


def test_the_size_of_samples():
    flow, pyramid = Flow(bijector()), maps()
    with pytest.raises(ValueError, match=r"sizes \(4, 8\), \(2, 4\) as context; pass size=..."):
        flow.sample(1, pyramid)
    assert flow.sample(3, pyramid, size=(8, 16)).shape == (2, 3, 3, 8, 16)
    assert flow.to_distribution(pyramid, size=(8, 16)).sample().shape == (2, 3, 8, 16)
    flow = encoded_flow()
    for labels in (torch.randint(7, (2, 8, 16)), torch.randint(7, (2, 1, 8, 16), dtype=torch.uint8)):
        assert flow.sample(1, labels).shape == (2, 1, 3, 8, 16)
        assert flow.to_distribution(labels).sample().shape == (2, 3, 8, 16)


def test_the_encoder_is_called_once_for_a_condition():
    flow, labels, rows = encoded_flow(), torch.randint(7, (2, 1, 8, 16)), []
    flow._embedding_net.register_forward_hook(lambda module, arguments, output: rows.append(len(arguments[0])))
    samples, log_probs = flow.sample_and_log_prob(5, labels, batch_size=2)
    flow.sample(4, labels, batch_size=1)
    assert rows == [2, 2]
    each = flow.log_prob(samples.flatten(0, 1), labels.repeat_interleave(5, 0)).view(2, 5)
    torch.testing.assert_close(each, log_probs, rtol=1e-9, atol=1e-9)
    noise = flow.transform_to_noise(samples[:, 0], labels)
    torch.testing.assert_close(flow.transform_from_noise(noise, labels), samples[:, 0])
    torch.testing.assert_close(flow.to_distribution(labels).log_prob(samples[:, 0]), log_probs[:, 0])


def test_an_embedding_net_conditions_the_base_too():
    class Base(nn.Module):
        def forward(self, context):
            return torch.distributions.Independent(torch.distributions.Normal(context[:, :2], 1.0), 1)

    net = nn.Linear(3, 4)
    flow = Flow(ActNorm(2, MLPConditioner(4, 4)), shape=(2,), base=Base(), embedding_net=net)
    other = Flow(flow.transform, shape=(2,), base=flow.base)
    context, x = torch.randn(5, 3), torch.randn(5, 2)
    assert torch.equal(flow.log_prob(x, context), other.log_prob(x, net(context)))
    assert flow.sample(3, context).shape == (5, 3, 2)
    assert flow.to_distribution(context).has_rsample
    pair = PairedFlow(Flow(ActNorm(3), shape=(3,)), Flow(ActNorm(2, MLPConditioner(4, 4)), (2,), embedding_net=net))
    assert torch.equal(pair.log_prob(x, context), pair.log_probs(x_a=context, x_b=x)[1])
    assert pair.sample(3, context).shape == (5, 3, 2)
    assert copy.deepcopy(flow)._embedding_net.weight is not net.weight


def test_every_map_knows_the_whole_condition():
    torch.manual_seed(0)
    encoder = PyramidEncoder(2, FEATURES).double()
    image = rand(1, 2, 16, 32).requires_grad_()
    for level in encoder(image):
        gradient, = torch.autograd.grad(level[..., 0, 0].sum(), image, retain_graph=True)
        assert (gradient.abs().amax(1) > 0).all()


@pytest.mark.parametrize("sizes", [(8,), (9, 13), (4, 6, 8)])
def test_shapes_of_the_encoder(sizes):
    encoder = PyramidEncoder(2, (4, 6), spatial_dims=len(sizes))
    half, quarter = ([-(-n // 2**k) for n in sizes] for k in (1, 2))
    assert [level.shape for level in encoder(torch.randn(3, 2, *sizes))] == [(3, 4, *half), (3, 6, *quarter)]
    labels = PyramidEncoder(1, (4, 6), classes=3, spatial_dims=len(sizes))
    assert [level.shape for level in labels(torch.randint(3, (3, *sizes)))] == [(3, 4, *half), (3, 6, *quarter)]


def test_labels_are_one_hot_and_nothing_is_zero():
    encoder, image = PyramidEncoder(2, FEATURES, classes=4, nothing=3), PyramidEncoder(8, FEATURES)
    image.load_state_dict(encoder.state_dict())
    image.bound = lambda values: values
    labels = torch.randint(4, (2, 2, 8, 8))
    one_hot = F.one_hot(labels, 4).movedim(-1, 2).float()
    one_hot[:, :, 3] = 0
    for got, want in zip(encoder(labels.to(torch.uint8)), image(one_hot.flatten(1, 2)), strict=True):
        torch.testing.assert_close(got, want)
    # 255 by default, beside all classes.
    encoder = PyramidEncoder(1, FEATURES, classes=4)
    unknown = torch.full((1, 8, 8), 255)
    zeros = PyramidEncoder(4, FEATURES)
    zeros.load_state_dict(encoder.state_dict())
    for got, want in zip(encoder(unknown), zeros(torch.zeros(1, 4, 8, 8)), strict=True):
        torch.testing.assert_close(got, want)


def test_rows_of_the_encoder_do_not_depend_on_each_other():
    encoder, labels = PyramidEncoder(1, FEATURES, classes=7).double(), torch.randint(7, (3, 8, 16))
    for whole, alone in zip(encoder(labels), encoder(labels[1:2]), strict=True):
        torch.testing.assert_close(whole[1:2], alone)


def test_export_of_a_flow_with_an_encoder():
    flow = encoded_flow()
    labels, inputs = torch.randint(7, (3, 1, 8, 16)), rand(3, 3, 8, 16)
    batch = torch.export.Dim("batch", min=2, max=64)
    shapes = {"inputs": {0: batch}, "context": {0: batch}}
    program = torch.export.export(flow, (inputs, labels), dynamic_shapes=shapes, strict=False).module()
    for rows in (2, 5):
        args = rand(rows, 3, 8, 16), torch.randint(7, (rows, 1, 8, 16))
        torch.testing.assert_close(program(*args), flow(*args), rtol=1e-9, atol=1e-9)


def test_vmap_over_flows_with_an_encoder():
    flow = encoded_flow()
    labels, inputs = torch.randint(7, (3, 1, 8, 16)), rand(3, 3, 8, 16)
    each = torch.func.vmap(lambda x, c: flow.log_prob(x[None], c[None])[0])(inputs, labels)
    torch.testing.assert_close(each, flow.log_prob(inputs, labels), rtol=1e-9, atol=1e-9)


def test_training_reaches_the_encoder():
    torch.manual_seed(0)
    flow = Flow(multiscale(3, (1, 1), step), embedding_net=PyramidEncoder(1, FEATURES, classes=2))
    labels = torch.randint(2, (16, 1, 2, 2)).repeat_interleave(4, 2).repeat_interleave(4, 3)
    inputs = labels + 0.1 * torch.randn(16, 3, 8, 8)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        initialize(flow, inputs, labels)
    optimizer = torch.optim.Adam(flow.parameters(), 3e-3)
    losses = []
    for _ in range(60):
        loss = -flow.log_prob(inputs, labels).mean() / inputs[0].numel()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < losses[0] - 0.3
    assert all(parameter.grad.abs().sum() > 0 for parameter in flow._embedding_net.parameters())


def test_a_far_pyramid_gets_a_warning():
    flow = Flow(ActNorm(4, MapConditioner(5, 8, 4)), (4, None, None))
    far = tuple(1000 + torch.randn(2, c, *size) for c, size in ((5, (4, 8)), (6, (2, 4))))
    with pytest.warns(UserWarning, match="can learn little from a context far from order 1"):
        initialize(flow, torch.randn(2, 4, 4, 8), far)


@pytest.mark.parametrize(("build", "context", "error", "message"), [
    (lambda: PyramidEncoder(1, classes=7), torch.rand(2, 1, 8, 8), TypeError, "integer labels, 0 to 6"),
    (lambda: PyramidEncoder(1, classes=7), torch.full((2, 8, 8), 7), ValueError, "from 0 to 6, or 255"),
    (lambda: PyramidEncoder(1, classes=7), torch.full((2, 8, 8), -1), ValueError, "got -1 to -1; build it"),
    (lambda: PyramidEncoder(2, classes=7), torch.zeros(2, 8, 8).long(), ValueError, "labels of 2 channels and 2"),
    (lambda: PyramidEncoder(1, classes=7), torch.zeros(2, 4, 4).long(), ValueError, "a side of at least 8"),
    (lambda: PyramidEncoder(3), torch.rand(2, 1, 8, 8), ValueError, "3 channels in dimension 1"),
    (lambda: PyramidEncoder(3), torch.rand(2, 3, 8), ValueError, "2 spatial dimensions, got shape"),
    (lambda: PyramidEncoder(3), torch.zeros(2, 3, 8, 8).long(), TypeError, "expects torch.float32 on cpu"),
    (lambda: PyramidEncoder(3), torch.rand(2, 3, 8, 8).double(), TypeError, "expects torch.float32 on cpu"),
    (lambda: PyramidEncoder(3, features=()), None, ValueError, "at least 1 level"),
    (lambda: PyramidEncoder(3, features=(4, 0)), None, ValueError, "at least 1 feature"),
    (lambda: PyramidEncoder(3, features=5), None, ValueError, "one number for each level"),
    (lambda: PyramidEncoder(1, classes=3, nothing=None), None, ValueError, "a whole number that says"),
    (lambda: ActNorm(4, nn.Sequential(MapConditioner(5, 8))).double()(rand(2, 4, 4, 8), maps()), None, TypeError,
     "MapConditioner got a pyramid, but not the size of its inputs"),
    (lambda: PyramidEncoder(0), None, ValueError, "at least 1 channel"),
    (lambda: PyramidEncoder(1, classes=0), None, ValueError, "at least 1 class"),
    (lambda: PyramidEncoder(1, spatial_dims=4), None, ValueError, "1 to 3 spatial dimensions"),
])
def test_mistakes(build, context, error, message):
    with pytest.raises(error, match=message):
        build()(context)


def test_the_registry_has_pyramids():
    assert {f"{d}d: multiscale given a pyramid" for d in (1, 2, 3)} <= ENTRIES.keys()


def test_pyramids_with_fewer_maps_than_levels_compile():
    flow = perturb(Flow(multiscale(3, (1, 1, 1), lambda c: glow_step(
        c, CouplingConditioner(c, 8, 8), actnorm=MapConditioner(8, 2 * c))), embedding_net=PyramidEncoder(1, (8, 8))))
    x, image = torch.rand(2, 3, 16, 32), torch.rand(2, 1, 16, 32)
    for compiled in (torch.compile(flow, backend="eager", fullgraph=True),
                     compile_steps(copy.deepcopy(flow), backend="eager")):
        torch.testing.assert_close(compiled(x, image), flow(x, image))


def test_joined_parts_compile():
    flow = Flow(multiscale(3, (1,), lambda c: glow_step(c, Select(["m", "v"], CouplingConditioner(c, 8, 6)))))
    x, context = torch.rand(2, 3, 8, 8), {"m": torch.rand(2, 4, 4, 4), "v": torch.randn(2, 2)}
    compiled = torch.compile(flow, backend="eager", fullgraph=True)
    torch.testing.assert_close(compiled(x, context), flow(x, context))


class Rows(nn.Module):
    """An encoder that loses rows."""

    def forward(self, context):
        return context[:2]


def test_an_embedding_net_that_loses_rows_is_refused():
    flow = Flow(ActNorm(2, nn.Linear(4, 4)), shape=(2,), embedding_net=Rows())
    message = r"Flow, of its embedding net, expects a context of batch size 4"
    with pytest.raises(ValueError, match=message):
        flow.log_prob(torch.randn(4, 2), torch.randn(4, 4))
    with pytest.raises(ValueError, match=message):
        flow.sample(3, torch.randn(4, 4))


class Scaled(nn.Module):
    def __init__(self, scale):
        super().__init__()
        self.scale = scale

    def forward(self, trace):
        return trace.map(lambda entry: self.scale * entry)


def test_reports_of_pairs_read_the_embedding_of_the_target():
    source = multiscale(1, (1,), lambda c: glow_step(c, CouplingConditioner(c, 8)))
    target = multiscale(3, (1,), lambda c: glow_step(c, CouplingConditioner(c, 8, c // 3)))
    pair = perturb(PairedFlow(source, Flow(target, embedding_net=Scaled(3.0))))
    x_a, x_b = torch.rand(2, 1, 8, 8), torch.rand(2, 3, 8, 8)
    report = invertibility_report(pair, x_b, x_a)
    pair.target._embedding_net.scale = 0.0
    assert str(report) != str(invertibility_report(pair, x_b, x_a))


def test_side_information_that_is_no_pyramid_is_described_by_shapes():
    pair = PairedFlow(multiscale(1, (1,), ActNorm), multiscale(3, (1,), ActNorm))
    maps = torch.rand(2, 4, 4, 4), torch.rand(2, 4, 4, 4)
    with pytest.raises(ValueError, match=r"got a tuple of torch.Size\(\[2, 4, 4, 4\]\), .*, which is no pyramid"):
        pair.log_prob(torch.rand(2, 3, 8, 8), (torch.rand(2, 1, 8, 8), maps))
