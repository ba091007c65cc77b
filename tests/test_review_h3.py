"""What a review of learned noise, pyramids and nets in bfloat16 found."""

import copy

import pytest
import torch
from torch import nn

from condflows import (
    ActNorm,
    Flow,
    PairedFlow,
    VariationalDequantization,
    bfloat16_nets,
    compile_steps,
    glow_step,
    multiscale,
)
from condflows.conditioners import CouplingConditioner, MapConditioner, MLPConditioner, PyramidEncoder, Select
from condflows.testing import invertibility_report
from condflows.testing.laws import perturb


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_learned_noise_is_exported_and_mapped(dtype):
    dequantization = perturb(VariationalDequantization(3))
    images, noise = torch.randint(256, (2, 3, 4, 4)).to(dtype), torch.rand(2, 3, 4, 4)
    expected = dequantization(images, noise=noise)[1]
    exported = torch.export.export(dequantization, (images, None, None, noise)).module()
    torch.testing.assert_close(exported(images, None, None, noise)[1], expected)
    each = torch.func.vmap(lambda x, u: dequantization(x[None], noise=u[None])[1][0])(images, noise)
    torch.testing.assert_close(each, expected)


@pytest.mark.parametrize("noise", [torch.rand(4, 3, 4, 4), torch.rand(1, 3, 4, 4), torch.rand(2, 3, 2, 2), 0.5])
def test_noise_of_another_shape_is_refused(noise):
    images = torch.randint(256, (2, 3, 4, 4))
    with pytest.raises(ValueError, match=r"expects noise of the images' shape \(2, 3, 4, 4\)"):
        VariationalDequantization(3)(images, noise=noise)


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


def test_nets_in_bfloat16_on_the_meta_device():
    net = bfloat16_nets(MLPConditioner(2, 4).to("meta"))
    assert net(torch.empty(3, 2, device="meta")).dtype == torch.float32


def test_side_information_that_is_no_pyramid_is_described_by_shapes():
    pair = PairedFlow(multiscale(1, (1,), ActNorm), multiscale(3, (1,), ActNorm))
    maps = torch.rand(2, 4, 4, 4), torch.rand(2, 4, 4, 4)
    with pytest.raises(ValueError, match=r"got a tuple of torch.Size\(\[2, 4, 4, 4\]\), .*, which is no pyramid"):
        pair.log_prob(torch.rand(2, 3, 8, 8), (torch.rand(2, 1, 8, 8), maps))
