"""Pictures: what was drawn, on whose axes, and that nothing else changed."""

import subprocess
import sys
from types import SimpleNamespace

import matplotlib
import matplotlib.pyplot as plt
import numpy as np
import pytest
import torch
from matplotlib.colors import to_rgba
from torch import nn
from torch.distributions import Normal

from condflows import ActNorm, Chain, Flow, Logit, LUConv1x1, PairedFlow, Squeeze, glow_step, multiscale, plots, testing
from condflows.conditioners import CouplingConditioner, Embed, MLPConditioner
from condflows.testing import InvertibilityReport, Place, perturb

EXAMPLES = {
    "density": lambda axes=None: plots.density(plane(), axes=axes),
    "corner": lambda axes=None: plots.corner(torch.randn(50, 3), axes=axes),
    "images": lambda axes=None: plots.images([torch.rand(3, 3, 4, 4), torch.rand(2, 1, 4, 4)], axes=axes),
    "temperatures": lambda axes=None: plots.temperatures(plane(), None, (0.5, 1.0), axes=axes),
    "interpolation": lambda axes=None: plots.interpolation(of_images(), *torch.rand(2, 2, 3, 4, 4), steps=3, axes=axes),
    "invertibility": lambda axes=None: plots.invertibility(REPORT, axes=axes),
    "history": lambda axes=None: plots.history(HISTORY, axes=axes),
    "calibration": lambda axes=None: plots.calibration(ranks_of(uniform_ranks(200, 99)), axes=axes),
}
PANELS = {"density": (1, 1), "corner": (3, 3), "images": (2, 3), "temperatures": (1, 2), "interpolation": (2, 3),
          "invertibility": (1, 2), "history": (1, 1), "calibration": (1, 1)}
REPORT = InvertibilityReport([Place("", "Chain", 1.0, 1e-4), Place("bijectors.0", "ActNorm", 1.0, 0.0, 0.5, 2.0),
                              Place("bijectors.1", "Chain", 3.0, 1e-5),
                              Place("bijectors.1.bijectors.0", "LUConv1x1", 3.0, 1e-6, 0.1, 10.0, 100.0),
                              Place("bijectors.1.bijectors.1", "Logit", 3.0, float("inf"))])
HISTORY = SimpleNamespace(train=[3.0, 2.0, 1.5], held_out=[3.1, 2.2, 2.4], learning_rates=[0.1, 0.1, 0.01],
                          best_epoch=1)


@pytest.fixture(autouse=True)
def _figures():
    """Check that no setting of matplotlib changes, and close all figures."""
    before = dict(matplotlib.rcParams)
    yield
    assert dict(matplotlib.rcParams) == before
    plt.close("all")


def plane(context_features=0, dtype=torch.float64):
    """Build a flow of two values, given a context, that is far from the identity."""
    net = MLPConditioner(1, 2, context_features, hidden=(16,))
    return Flow(perturb(Chain([glow_step(2, net), glow_step(2, MLPConditioner(1, 2))]), 0.3), shape=(2,)).to(dtype)


def of_images(context_channels=0):
    def step(c):
        return glow_step(c, CouplingConditioner(c, width=8, context_channels=context_channels))
    return Flow(perturb(multiscale(3, (1, 1), step, top=ActNorm), 0.05), shape=(3, 4, 4))


def ranks_of(ranks, num_samples=99, names=None):
    return SimpleNamespace(ranks=ranks, num_samples=num_samples, names=names or tuple(map(str, range(ranks.shape[1]))))


def uniform_ranks(rows, num_samples, columns=1, seed=0):
    return torch.randint(num_samples + 1, (rows, columns), generator=torch.Generator().manual_seed(seed))


def image_of(ax):
    (image,) = ax.images
    return np.asarray(image.get_array())


# All of them


def test_every_function_is_tried_here():
    assert list(EXAMPLES) == list(PANELS)
    assert sorted(EXAMPLES) == sorted(plots.__all__)


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_figure_is_made_and_returned(name):
    figure = EXAMPLES[name]()
    assert [plt.figure(number) for number in plt.get_fignums()] == [figure]
    figure.canvas.draw()


@pytest.mark.parametrize("name", EXAMPLES)
def test_given_axes_are_drawn_on(name):
    figure, axes = plt.subplots(*PANELS[name], squeeze=False)
    assert EXAMPLES[name](axes) is figure
    assert EXAMPLES[name](axes.ravel().tolist()) is figure
    assert len(plt.get_fignums()) == 1
    assert all(ax.has_data() or not ax.axison or name == "images" for ax in axes.flat)
    figure.canvas.draw()


@pytest.mark.parametrize("name", EXAMPLES)
def test_a_single_axis_and_one_of_a_subfigure_will_do(name):
    if PANELS[name] == (1, 1):
        figure, ax = plt.subplots()
        assert EXAMPLES[name](ax) is figure
        assert ax.has_data()
    outer = plt.figure()
    axes = outer.subfigures(1, 2)[1].subplots(*PANELS[name])
    assert EXAMPLES[name](axes) is outer


@pytest.mark.parametrize("name", EXAMPLES)
def test_another_number_of_axes_is_refused(name):
    rows, columns = PANELS[name]
    _, axes = plt.subplots(1, rows * columns + 1)
    with pytest.raises(ValueError, match=rf"{name} expects .*ax[ei]s.* got {rows * columns + 1}; make them with"):
        EXAMPLES[name](axes)


@pytest.mark.parametrize("draw", [
    lambda flow, context: plots.density(flow, context),
    lambda flow, context: plots.density({"a method": flow.log_prob}, context, limits=(-1, 1)),
    lambda flow, context: plots.temperatures(flow, context),
])
def test_flows_are_left_as_they_were(draw):
    flow = plane(3)
    flow.train()
    flow.transform.bijectors[0].eval()
    seen = []
    flow.transform.bijectors[1].register_forward_hook(lambda module, *_: seen.append(module.training))
    flow.transform.bijectors[1].register_forward_hook(lambda *_: seen.append(torch.is_grad_enabled()))
    before = [module.training for module in flow.modules()]
    draw(flow, torch.randn(2, 3, dtype=torch.float64))
    assert [module.training for module in flow.modules()] == before
    assert len(set(before)) == 2
    assert torch.is_grad_enabled()
    assert not any(seen)
    assert all(parameter.grad is None for parameter in flow.parameters())


def test_modes_are_restored_after_an_error():
    flow = plane(3).train()
    with pytest.raises(ValueError, match="MLPConditioner expects"):
        plots.density(flow, torch.randn(2, 4, dtype=torch.float64), limits=(-1, 1))
    assert flow.training
    assert flow.transform.bijectors[0].training


class Elsewhere(nn.Module):
    """A density with its parameters on another device, which it asks its inputs to be on."""

    def __init__(self):
        super().__init__()
        self.parameter = nn.Parameter(torch.zeros((), device="meta", dtype=torch.bfloat16))

    def log_prob(self, points, context):
        assert points.device == context.device == self.parameter.device
        assert points.dtype == torch.bfloat16
        return torch.zeros(len(points), dtype=torch.bfloat16)


def test_points_go_to_the_device_of_the_flow():
    figure = plots.density(Elsewhere(), torch.zeros(1, 4, device="meta"), limits=(0, 1), titles=["there"])
    assert (image_of(figure.axes[0]) == 1).all()


def test_importing_the_library_does_not_import_the_plots():
    """Import with matplotlib loaded for nflows alone, and then hidden."""
    script = (
        "import sys, nflows.flows, nflows.transforms, torch\n"
        "for name in [name for name in sys.modules if name.split('.')[0] == 'matplotlib']:\n"
        "    del sys.modules[name]\n"
        "sys.modules['matplotlib'] = None\n"
        "import condflows\n"
        "assert 'condflows.plots' not in sys.modules\n"
        "try:\n"
        "    from condflows import plots\n"
        "except ModuleNotFoundError as error:\n"
        "    print(error)\n"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == ('condflows.plots expects matplotlib, which is not installed; run '
                                   'pip install "condflows[plots]"')


# Densities


def test_a_density_is_that_of_the_flow_and_integrates_to_one():
    flow, contexts = plane(1), torch.tensor([[-1.0], [1.0]], dtype=torch.float64)
    figure = plots.density(flow, contexts, resolution=200)
    assert [ax.get_title() for ax in figure.axes[:2]] == ["c = -1", "c = 1"]
    for ax, context in zip(figure.axes, contexts, strict=False):
        left, right, bottom, top = ax.images[0].get_extent()
        drawn = image_of(ax)
        across, up = (np.linspace(low, high, 401)[1::2] for low, high in ((left, right), (bottom, top)))
        for i, j in ((0, 0), (100, 90), (199, 5)):
            point = torch.tensor([[across[j], up[i]]])
            assert drawn[i, j] == pytest.approx(flow.log_prob(point, context[None]).exp().item(), rel=1e-9)
        assert drawn.sum() * (right - left) * (top - bottom) / 200**2 == pytest.approx(1, abs=0.02)
        assert ax.images[0].get_clim() == (0, drawn.max())
    assert not np.allclose(image_of(figure.axes[0]), image_of(figure.axes[1]))


def truth(points, context):
    assert context is None or len(context) == len(points)
    return Normal(0 if context is None else context, 1).log_prob(points).sum(1)


def test_models_by_name_lie_below_each_other_with_one_scale_of_colours():
    flow, contexts = plane(1, torch.float32), torch.tensor([[0.0], [1.0], [2.0]])
    figure = plots.density({"truth": truth, "flow": flow}, contexts, limits=((-3, 3), (-2, 4)), titles=["a", "b", "c"])
    axes = np.array(figure.axes[:6]).reshape(2, 3)
    assert [ax.get_title() for ax in axes[0]] == ["a", "b", "c"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["truth\n$x_2$", "flow\n$x_2$"]
    for column in axes.T:
        largest = max(image_of(ax).max() for ax in column)
        assert [ax.images[0].get_clim() for ax in column] == [(0, largest)] * 2
        assert all((ax.get_xlim(), ax.get_ylim()) == ((-3, 3), (-2, 4)) for ax in column)
    row, column = np.unravel_index(image_of(axes[0, 2]).argmax(), (150, 150))
    # The truth is densest at (2, 2), where both axes of 150 cells have their 125th and 100th.
    assert (column, row) == (pytest.approx(124.5, abs=1), pytest.approx(99.5, abs=1))
    assert [label.get_text() for label in (figure.axes[6].xaxis.label, axes[1, 0].xaxis.label)] == ["density", "$x_1$"]


def test_a_density_without_context_may_be_given_its_brightest_colour():
    figure = plots.density(truth, limits=(-2, 2), vmax=0.1, names=("east", "north"))
    ax = figure.axes[0]
    assert ax.images[0].get_clim() == (0, 0.1)
    assert (ax.get_xlabel(), ax.get_ylabel(), ax.get_title()) == ("east", "north", "")


@pytest.mark.parametrize("each", [False, True])
def test_points_are_drawn_over_the_density(each):
    flow, points = plane(1), torch.randn(2, 30, 2, requires_grad=True)
    figure = plots.density(flow, torch.zeros(2, 1, dtype=torch.float64), points=points if each else points[0])
    for ax, own in zip(figure.axes, points if each else (points[0], points[0]), strict=False):
        assert np.allclose(ax.lines[0].get_xydata(), own.detach())


def test_limits_are_found_without_touching_random_numbers():
    flow = Flow(ActNorm(2), shape=(2,))
    flow.transform.initialize_from(torch.tensor([100.0, -1.0]) + torch.tensor([3.0, 0.01]) * torch.randn(500, 2))
    before = torch.get_rng_state()
    figure = plots.density(flow)
    assert torch.equal(torch.get_rng_state(), before)
    low, high = np.array([figure.axes[0].get_xlim(), figure.axes[0].get_ylim()]).T
    inside = (flow.sample(1000) > torch.tensor(low)) & (flow.sample(1000) < torch.tensor(high))
    assert inside.all(1).float().mean() > 0.99
    assert (high - low < [40, 0.14]).all()
    of_points = plots.density(truth, points=torch.tensor([[5.0, 1.0]]))  # one point, around which there is room
    assert of_points.axes[0].get_xlim() == pytest.approx((4.5, 5.5))


def test_conditions_may_be_classes_tuples_and_the_inputs_of_a_pair():
    net = Embed(5, 3).before(MLPConditioner(1, 2, 3))
    classes = plots.density(Flow(glow_step(2, net), shape=(2,)), torch.tensor([0, 4]))
    assert [ax.get_title() for ax in classes.axes[:2]] == ["c = 0", "c = 4"]
    source, target = glow_step(2, MLPConditioner(1, 2)), glow_step(2, MLPConditioner(1, 2), MLPConditioner(2, 4))
    pair = PairedFlow(Flow(source, shape=(2,)), Flow(perturb(target, 0.3), shape=(2,)))
    x_a = torch.randn(2, 2)
    figure = plots.density(pair, x_a, limits=(-1, 1), resolution=3)
    points = torch.cartesian_prod(*[torch.tensor([-2 / 3, 0, 2 / 3])] * 2).flip(1)
    for ax, row in zip(figure.axes, x_a, strict=False):
        expected = pair.log_prob(points, row.expand(9, 2)).exp().detach().view(3, 3)
        assert np.allclose(image_of(ax), expected, rtol=1e-4)
    target = glow_step(2, MLPConditioner(1, 2), MLPConditioner(3, 4))
    with_side = plots.density(PairedFlow(source, Flow(target, shape=(2,))), (x_a, torch.randn(2, 1)))
    assert [ax.get_title() for ax in with_side.axes[:2]] == ["condition 0", "condition 1"]


def test_points_outside_of_the_support_have_density_zero():
    figure = plots.density(Flow(Logit(0, 1), shape=(2,)), limits=(-1, 1), resolution=10)
    drawn = image_of(figure.axes[0])
    assert (drawn[:5] == 0).all()
    assert (drawn[:, :5] == 0).all()
    assert (drawn[5:, 5:] > 0).all()


@pytest.mark.parametrize(("given", "message"), [
    ({"flow": {}}, "at least one flow"), ({"limits": "all"}, "limits"), ({"limits": (0, float("inf"))}, "limits"),
    ({"vmax": 0}, "vmax"), ({"names": "xy"}, "2 names"), ({"points": torch.zeros(3, 4, 2)}, r"\(1, n, 2\)"),
    ({"context": torch.zeros(0, 1)}, "1 to 64 conditions"), ({"context": torch.tensor(1.0)}, "batch size 1"),
])
def test_what_does_not_fit_a_density_is_refused(given, message):
    with pytest.raises(ValueError, match=message):
        plots.density(**{"flow": truth, "limits": (-1, 1), **given})
    assert not plt.get_fignums()


# Corners


def test_histograms_of_a_corner_have_the_counts_of_the_samples():
    sets = {"few": torch.randn(100, 2), "many": 2 * torch.randn(1000, 2)}
    figure = plots.corner(sets, ["mass", "spin"], bins=12)
    axes = np.array(figure.axes).reshape(2, 2)
    for i in range(2):
        outlines = [patch for patch in axes[i, i].patches if not patch.get_fill()]
        for (name, samples), outline in zip(sets.items(), outlines, strict=True):
            heights, edges, _ = outline.get_data()
            counts = np.histogram(samples[:, i], edges)[0]
            assert np.allclose(heights * np.diff(edges) * len(samples), counts), name
            assert counts.sum() >= 0.99 * len(samples)
            assert np.array_equal(edges, outlines[0].get_data()[1])
    assert [text.get_text() for text in axes[0, 1].get_legend().get_texts()] == ["few", "many"]
    assert len({outline.get_edgecolor() for outline in outlines}) == 2
    assert not axes[0, 1].axison
    assert (axes[1, 0].get_xlabel(), axes[1, 0].get_ylabel(), axes[1, 1].get_xlabel()) == ("mass", "spin", "spin")


def test_contours_hold_their_shares_of_the_samples():
    samples = torch.randn(20_000, 2) @ torch.tensor([[1.0, 2.4], [0.0, 1.8]])
    figure = plots.corner(samples, bins=60)
    *_, outlines = figure.axes[2].collections
    paths = outlines.get_paths()
    assert len(paths) == 2
    shares = [path.contains_points(samples.numpy()).mean() for path in paths]
    assert shares == pytest.approx([0.9, 0.5], abs=0.03)
    # Of a normal distribution with correlation 0.8 the regions are ellipses: points along the diagonals tell.
    assert [path.contains_point((1.5, 4.5)) for path in paths] == [True, False]
    assert [path.contains_point((1.0, -3.0)) for path in paths] == [False, False]
    assert [path.contains_point((4.5, 1.5)) for path in paths] == [False, False]
    assert [list(path.codes).count(path.MOVETO) for path in paths] == [1, 1]  # smoothed, each is one line


def test_true_values_are_marked_and_inside():
    figure = plots.corner(torch.randn(200, 2), truths=torch.tensor([9.0, float("nan")]))
    axes = np.array(figure.axes).reshape(2, 2)
    assert axes[0, 0].lines[0].get_xdata() == [9.0, 9.0]
    assert axes[0, 0].get_xlim()[1] == axes[1, 0].get_xlim()[1] == 9.0
    assert axes[1, 1].get_xlim()[1] < 6
    assert axes[0, 1].get_legend() is None


@pytest.mark.parametrize("samples", [
    torch.randn(50, 1), torch.ones(50, 3), torch.randn(1, 2), torch.arange(20).view(10, 2),
    torch.randn(50, 2, dtype=torch.bfloat16, requires_grad=True)])
def test_samples_of_all_kinds_make_a_corner(samples):
    figure = plots.corner({"samples": samples}, truths=[0] * samples.shape[1])
    figure.canvas.draw()
    assert len(figure.axes) == samples.shape[1] ** 2


# Images


def test_images_are_drawn_where_they_belong():
    conditions, photos = torch.rand(3, 1, 4, 5), torch.rand(3, 3, 4, 5)
    samples = torch.rand(3, 2, 3, 4, 5)
    figure = plots.images({"map": conditions, "samples": samples, "photo": photos}, titles=["a", "b", "c"])
    axes = np.array(figure.axes).reshape(4, 3)
    for i in range(3):
        assert np.allclose(image_of(axes[0, i]), conditions[i, 0])
        for n in range(2):
            assert np.allclose(image_of(axes[1 + n, i]), samples[i, n].movedim(0, -1))
        assert np.allclose(image_of(axes[3, i]), photos[i].movedim(0, -1))
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["map", "samples", "samples", "photo"]
    assert [ax.get_title() for ax in axes[0]] == ["a", "b", "c"]
    turned = plots.images({"map": conditions, "samples": samples, "photo": photos}, titles=["a", "b", "c"],
                          transposed=True)
    turned_axes = np.array(turned.axes).reshape(3, 4)
    assert all(np.array_equal(image_of(turned_axes[i, n]), image_of(axes[n, i])) for i in range(3) for n in range(4))
    assert [ax.get_title() for ax in turned_axes[0]] == ["map", "samples", "samples", "photo"]
    assert [ax.get_ylabel() for ax in turned_axes[:, 0]] == ["a", "b", "c"]


def test_values_beyond_the_limits_are_drawn_as_the_limits():
    values = torch.tensor([-0.5, 0.25, 1.0, 1.5]).view(1, 1, 2, 2)
    assert np.allclose(image_of(plots.images(values).axes[0]), [[0, 0.25], [1, 1]])
    assert np.allclose(image_of(plots.images(values, limits=(-0.5, 1.5)).axes[0]), [[0, 0.375], [0.75, 1]])
    assert plots.images(values).axes[0].images[0].get_clim() == (0, 1)
    assert np.allclose(image_of(plots.images(values.expand(1, 3, 2, 2)).axes[0])[..., 0], [[0, 0.25], [1, 1]])


@pytest.mark.parametrize("images", [torch.tensor([0, 51, 255, 102], dtype=torch.uint8).view(1, 1, 2, 2),
                                    torch.tensor([0, 0.2, 1, 0.4]).view(1, 1, 2, 2).requires_grad_(),
                                    torch.tensor([0, 0.2, 1, 0.4]).view(1, 1, 2, 2).bfloat16()])
def test_images_of_all_kinds_are_drawn(images):
    assert np.allclose(image_of(plots.images(images).axes[0]), [[0, 0.2], [1, 0.4]], atol=1e-3)


def test_a_batch_is_split_into_rows_of_which_the_last_may_be_short():
    photos = torch.rand(5, 3, 4, 4)
    axes = plots.images(photos.split(3)).axes
    assert [len(ax.images) for ax in axes] == [1, 1, 1, 1, 1, 0]
    assert np.allclose(image_of(axes[4]), photos[4].movedim(0, -1))
    assert not any(spine.get_visible() for spine in axes[5].spines.values())


# Temperatures


def test_images_of_one_row_have_the_same_noise():
    flow, context = of_images(1), torch.rand(2, 1, 4, 4)
    figure = plots.temperatures(flow, context, (0.0, 0.5, 1.0), num_samples=2, limits=(-9, 9),
                                generator=torch.Generator().manual_seed(3))
    axes = np.array(figure.axes).reshape(4, 3)
    assert [ax.get_title() for ax in axes[0]] == ["T = 0", "T = 0.5", "T = 1"]
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["condition 0", "", "condition 1", ""]
    drawn = torch.tensor(np.array([[image_of(ax) for ax in row] for row in axes])).movedim(-1, 2).float() * 18 - 9
    noise = [flow.transform_to_noise(drawn[:, j], context.repeat_interleave(2, 0)).detach() for j in range(3)]
    assert torch.allclose(noise[0], torch.zeros(()), atol=1e-3)
    assert torch.allclose(noise[1], noise[2] / 2, atol=1e-3)
    expected = torch.randn(4, 3, 4, 4, generator=torch.Generator().manual_seed(3))
    assert torch.allclose(noise[2], expected, atol=1e-3)


def test_points_of_one_row_have_the_same_noise():
    flow, context = plane(1), torch.tensor([[0.0], [3.0]], dtype=torch.float64)
    figure = plots.temperatures(flow, context, (0.5, 1.0), num_samples=20)
    axes = np.array(figure.axes).reshape(2, 2)
    for row, c in zip(axes, context, strict=True):
        points = [torch.tensor(ax.lines[0].get_xydata()) for ax in row]
        half, whole = (flow.transform_to_noise(one, c.expand(20, 1)).detach() for one in points)
        assert torch.allclose(half, whole / 2, atol=1e-6)
        assert whole.std() > 0.5
    assert len({ax.get_xlim() for ax in axes.flat}) == 1
    assert [ax.get_ylabel() for ax in axes[:, 0]] == ["c = 0\n$x_2$", "c = 3\n$x_2$"]


def test_noise_comes_from_the_generator_or_from_torchs_seed():
    flow = plane()

    def drawn(seed=None):
        generator = None if seed is None else torch.Generator().manual_seed(seed)
        return plots.temperatures(flow, None, (1.0,), num_samples=5, generator=generator).axes[0].lines[0].get_xydata()

    assert np.array_equal(drawn(1), drawn(1))
    assert not np.array_equal(drawn(1), drawn(2))
    torch.manual_seed(5)
    first, second = drawn(), drawn()
    torch.manual_seed(5)
    assert np.array_equal(first, drawn())
    assert not np.array_equal(first, second)
    assert np.array_equal(drawn(1), flow.sample(5, generator=torch.Generator().manual_seed(1)).detach())


def test_pairs_and_flows_without_context_have_temperatures():
    def step(c, context=0):
        return glow_step(c, CouplingConditioner(c, 8, context))
    pair = PairedFlow(multiscale(3, (1,), step), multiscale(3, (1,), lambda c: step(c, c)))
    assert len(plots.temperatures(pair, torch.rand(2, 3, 8, 4), (0.5, 1.0)).axes) == 4
    figure = plots.temperatures(pair.source, None, (0.5, 0.5), num_samples=3, size=(4, 6))
    axes = np.array(figure.axes).reshape(3, 2)
    assert image_of(axes[0, 0]).shape == (4, 6, 3)
    assert all(np.array_equal(image_of(left), image_of(right)) for left, right in axes)
    assert not np.array_equal(image_of(axes[0, 0]), image_of(axes[1, 0]))


# Interpolations


def test_an_interpolation_leads_from_one_image_to_the_other():
    flow, context = of_images(1), torch.rand(2, 1, 4, 4)
    x_0, x_1 = torch.rand(2, 2, 3, 4, 4)
    figure = plots.interpolation(flow, x_0, x_1, context, steps=5, limits=(-9, 9))
    axes = np.array(figure.axes).reshape(2, 5)
    drawn = torch.tensor(np.array([[image_of(ax) for ax in row] for row in axes])).movedim(-1, 2).float() * 18 - 9
    assert torch.allclose(drawn[:, 0], x_0, atol=1e-3)
    assert torch.allclose(drawn[:, -1], x_1, atol=1e-3)
    noise = torch.stack([flow.transform_to_noise(one, context).detach() for one in drawn.unbind(1)]).flatten(2)
    lengths = noise.norm(dim=2)
    assert torch.allclose(lengths, lengths[:1].lerp(lengths[-1:], torch.linspace(0, 1, 5)[:, None]), atol=1e-3)
    cosines = nn.functional.cosine_similarity(noise[1:], noise[:-1], dim=2)
    assert torch.allclose(cosines, cosines.mean(0), atol=1e-4)  # steps of one angle, in one plane
    assert torch.allclose(4 * cosines[0].acos(), nn.functional.cosine_similarity(noise[0], noise[-1]).acos(), atol=1e-3)


@pytest.mark.parametrize("ends", [
    pytest.param((1.0, 1.0), id="equal"), pytest.param((1.0, 1.0 + 1e-6), id="nearly equal"),
    pytest.param((1.0, 2.0), id="of one direction"), pytest.param((0.0, 1.0), id="from nothing"),
    pytest.param((1.0, -1.0), id="opposite")])
def test_an_arc_that_is_none_is_a_line(ends):
    flow, x = Flow(ActNorm(3), shape=(3, 4, 4)), 0.5 * torch.rand(1, 3, 4, 4)
    figure = plots.interpolation(flow, ends[0] * x, ends[1] * x, steps=3, limits=(-1, 1))
    for ax, factor in zip(figure.axes, (ends[0], sum(ends) / 2, ends[1]), strict=True):
        assert np.allclose(2 * image_of(ax) - 1, factor * x[0].movedim(0, -1), atol=1e-5)


def test_an_interpolation_under_a_pair_reads_its_condition():
    def step(c, context=0):
        return perturb(glow_step(c, CouplingConditioner(c, 8, context)), 0.05)
    pair = PairedFlow(Flow(step(3), (3, 4, 4)), Flow(step(3, 3), (3, 4, 4)))
    x_a, x_0, x_1 = torch.rand(3, 2, 3, 4, 4)
    figure = plots.interpolation(pair, x_0, x_1, x_a, steps=2)
    assert np.allclose(image_of(figure.axes[0]), x_0[0].movedim(0, -1), atol=1e-4)
    assert [ax.get_title() for ax in figure.axes] == ["$x_0$", "$x_1$", "", ""]


# Reports


def test_errors_of_a_report_are_drawn_in_its_order():
    errors, scales = plots.invertibility(REPORT).axes
    assert [label.get_text() for label in errors.get_yticklabels()] == ["0 ActNorm", "1.0 LUConv1x1", "1.1 Logit"]
    points = [(line.get_marker(), line.get_fillstyle(), y, x)
              for line in errors.lines for x, y in line.get_xydata() if line.get_linestyle() == "None"]
    assert points == [("o", "none", 0, pytest.approx(1e-6 / 3)), ("s", "full", 1, pytest.approx(1e-6)),
                      ("x", "full", 2, pytest.approx(1e-4 * 3))]
    bars = [line.get_xydata() for line in errors.lines if line.get_linestyle() == "-"]
    assert np.allclose(bars, [[[1e-4, -0.4], [1e-4, 2.4]], [[1e-5, 0.6], [1e-5, 2.4]]])
    assert errors.get_xscale() == scales.get_xscale() == "log"
    ranges = [line.get_xydata() for line in scales.lines if line.get_marker() == "|"]
    assert np.allclose(ranges, [[[0.5, 0], [2, 0]], [[0.1, 1], [10, 1]]])
    (condition,) = [line.get_xydata() for line in scales.lines if line.get_marker() == "D"]
    assert np.allclose(condition, [[100, 1]])
    said = [text.get_text() for text in scales.get_legend().get_texts()]
    assert said == ["composition", "ActNorm", "LUConv1x1", "Logit", "error 0", "error not finite",
                    "least to largest scale", "condition number"]


def test_a_deep_pair_is_drawn_by_number_and_a_bijector_alone_by_its_kind():
    def step(c, context=0):
        return glow_step(c, CouplingConditioner(c, 4, context))
    pair = PairedFlow(multiscale(3, (6, 6), step), multiscale(3, (6, 6), lambda c: step(c, c)))
    report = testing.invertibility_report(pair, torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4))
    errors, _ = plots.invertibility(report).axes
    single = [place for place in report if place.kind not in ("Chain", "Split")]
    assert errors.get_ylim() == (len(single) - 0.4, -0.6)
    drawn = sorted((y, x) for line in errors.lines if line.get_linestyle() == "None" for x, y in line.get_xydata())
    assert [y for y, _ in drawn] == list(range(len(single)))
    expected = [place.error for place in single]
    assert all(x == pytest.approx(error) for (_, x), error in zip(drawn, expected, strict=True) if error)
    bars = [line.get_ydata().tolist() for line in errors.lines if line.get_linestyle() == "-"]
    parts = [[row for row, part in enumerate(single) if part.name.startswith(f"{place.name}.")]
             for place in report if place.kind in ("Chain", "Split")]
    assert bars == [[rows[0] - 0.4, rows[-1] + 0.4] for rows in parts]
    (alone,) = testing.invertibility_report(LUConv1x1(3), torch.randn(5, 3)),
    assert [label.get_text() for label in plots.invertibility(alone).axes[0].get_yticklabels()] == ["LUConv1x1"]
    exact = testing.invertibility_report(Squeeze(), torch.randn(2, 1, 2, 2))
    plots.invertibility(exact).canvas.draw()  # without a single error or scale


# Histories


def test_a_history_is_drawn_epoch_by_epoch():
    left, right = plots.history(HISTORY).axes
    train, held_out, best = (line.get_xydata().tolist() for line in left.lines)
    assert train == [[0, 3.0], [1, 2.0], [2, 1.5]]
    assert held_out == [[0, 3.1], [1, 2.2], [2, 2.4]]
    assert best == [[1, 2.2]]
    assert right.lines[0].get_ydata().tolist() == [0.1, 0.1, 0.01]
    assert right.get_yscale() == "log"


def test_a_history_without_held_out_data():
    left, _ = plots.history(SimpleNamespace(**{**vars(HISTORY), "held_out": [], "best_epoch": 2})).axes
    train, best = (line.get_xydata().tolist() for line in left.lines)
    assert best == [train[2]]
    left, _ = plots.history(SimpleNamespace(**{**vars(HISTORY), "held_out": [], "best_epoch": None})).axes
    assert len(left.lines) == 1


@pytest.mark.parametrize("change", [{"held_out": [1.0]}, {"learning_rates": []}, {"best_epoch": 3}, {"best_epoch": -1}])
def test_a_history_that_does_not_agree_with_itself_is_refused(change):
    with pytest.raises(ValueError, match="history expects"):
        plots.history(SimpleNamespace(**{**vars(HISTORY), **change}))


# Calibration


def line_and_band(ax, index=1):
    """Return the abscissae, the line and the two bounds that were drawn."""
    across, line = ax.lines[index].get_data()
    corners = ax.collections[0].get_paths()[0].vertices
    bounds = [corners[np.isclose(corners[:, 0], x)][:, 1] for x in across]
    return across, line, np.array([bound.min() for bound in bounds]), np.array([bound.max() for bound in bounds])


def test_lines_of_calibration_are_shares_of_ranks_less_those_expected():
    ranks = uniform_ranks(50, 9, columns=2)
    figure = plots.calibration(ranks_of(ranks, 9, ("mass", "spin")))
    for column in range(2):
        across, line, _, _ = line_and_band(figure.axes[0], 1 + column)
        assert np.allclose(across, np.arange(11) / 10)
        by_hand = [(ranks[:, column] < r).float().mean() - r / 10 for r in range(11)]
        assert np.allclose(line, by_hand, atol=1e-6)
    texts = [text.get_text() for text in figure.axes[0].get_legend().get_texts()]
    assert texts == ["mass", "spin", "95 % simultaneous band"]


@pytest.mark.parametrize(("rows", "num_samples"), [(20, 19), (200, 99), (500, 999)])
def test_the_band_holds_19_of_20_calibrated_lines(rows, num_samples):
    """Compare with new ranks, drawn one by one in another way than the band's."""
    figure = plots.calibration(ranks_of(uniform_ranks(rows, num_samples), num_samples))
    across, _, low, high = line_and_band(figure.axes[0])
    at = np.round(across[1:-1] * (num_samples + 1)).astype(int)
    held = []
    for _ in range(30):
        ranks = np.sort(np.random.default_rng(len(held) + 1).integers(num_samples + 1, size=(100, rows)), 1)
        line = np.array([np.searchsorted(one, at) for one in ranks]) / rows - across[1:-1]
        held.append(((line >= low[1:-1] - 1e-9) & (line <= high[1:-1] + 1e-9)).all(1).mean())
    # The deviation of such a share is 0.4 % by chance, and that of the simulated bound 0.5 %. Few rows have few lines.
    assert np.mean(held) == pytest.approx(0.95, abs=0.015 if rows >= 200 else 0.03)


def test_the_band_is_that_of_the_binomial_distribution_where_there_is_one_point():
    """With one sample there are two ranks, and one point: by Säilynoja's rule, tails of 2.5 % or less are outside."""
    _, _, low, high = line_and_band(plots.calibration(ranks_of(uniform_ranks(40, 1), 1)).axes[0])
    counts = torch.arange(41, dtype=torch.float64)
    chances = torch.distributions.Binomial(40, torch.tensor(0.5, dtype=torch.float64)).log_prob(counts).exp()
    inside = [k for k in range(41) if min(chances[:k + 1].sum(), chances[k:].sum()) > 0.02]
    assert (40 * (low[1] + 0.5), 40 * (high[1] + 0.5)) == (pytest.approx(inside[0]), pytest.approx(inside[-1]))


@pytest.mark.parametrize("wrong", ["narrow", "low"])
def test_a_flow_that_is_wrong_leaves_the_band(wrong):
    true, samples = torch.randn(500, 1), torch.randn(500, 99) * (0.5 if wrong == "narrow" else 1)
    samples = samples - (0.5 if wrong == "low" else 0)
    ranks = (samples < true).sum(1, keepdim=True)
    across, line, low, high = line_and_band(plots.calibration(ranks_of(ranks)).axes[0])
    outside = (line < low) | (line > high)
    assert outside.mean() > 0.4
    assert line[across < 0.3].max() > 0.1 if wrong == "narrow" else line.max() <= 0.01
    assert line[across > 0.7].min() < -0.1


def test_many_quantities_have_lines_that_can_be_told_apart():
    figure = plots.calibration(ranks_of(uniform_ranks(30, 99, columns=12)))
    looks = {(to_rgba(line.get_color()), line.get_linestyle()) for line in figure.axes[0].lines[1:]}
    assert len(looks) == 12


@pytest.mark.parametrize(("ranks", "num_samples"), [
    (torch.tensor([[-1]]), 9), (torch.tensor([[0.5]]), 9), (torch.zeros(3, 1), 0), (torch.zeros(3), 9),
    (torch.zeros(0, 1), 9)])
def test_what_are_no_ranks_is_refused(ranks, num_samples):
    with pytest.raises(ValueError, match="calibration expects"):
        plots.calibration(SimpleNamespace(ranks=ranks, num_samples=num_samples, names=("mass",)))
