"""Plots of an evaluation's results."""

from collections.abc import Mapping, Sequence
from pathlib import Path

from matplotlib.figure import Figure
from torch import Tensor

from streets.judging.scores import SCORES
from streets.judging.tables import Results, best


def plot_temperatures(results: Results, path: Path) -> None:
    """Plot the three scores against one temperature of all levels, with ceiling and floors as lines."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3), SCORES.items(), strict=True):
        for name, run in results["runs"].items():
            points = [(1.0 if score["temperature"] is None else score["temperature"], score[key]["mean"],
                       score[key]["deviation"] or 0) for score in run["scores"]
                      if not isinstance(score["temperature"], Sequence)]
            if points:
                axes.errorbar(*zip(*points, strict=True), label=name, marker="o", markersize=4)
        for (name, score), style in zip(results["references"].items(), (":", "--", "-."), strict=False):
            axes.axhline(score[key], color="gray", linestyle=style, linewidth=1, label=name)
        axes.set(xlabel="temperature", ylabel=f"{title}, percent", ylim=(0, None))
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def plot_classes(results: Results, path: Path) -> None:
    """Plot the IoU of each class at each model's best temperature, beside ceiling and floors."""
    bars = {name: best(run["scores"])["class_iou"] for name, run in results["runs"].items()}
    bars |= {name: score["class_iou"] for name, score in results["references"].items()}
    figure = Figure(figsize=(12, 4), layout="constrained")
    axes = figure.subplots()
    classes, width = list(results["references"]["real"]["class_iou"]), 0.8 / len(bars)
    for i, (name, scores) in enumerate(bars.items()):
        gray = None if name in results["runs"] else str(0.3 + 0.2 * (i - len(results["runs"])))
        places = [x + i * width for x in range(len(classes))]
        axes.bar(places, [scores[c] for c in classes], width, label=name, color=gray)
    axes.set_xticks([x + 0.4 - width / 2 for x in range(len(classes))], classes, rotation=20)
    axes.set_ylabel("IoU, percent")
    axes.legend(fontsize=7, ncols=2)
    figure.savefig(path, dpi=110)


def plot_confusion(results: Results, path: Path) -> None:
    """Plot confusion matrices with a row for each class of the label maps: real images, and each model at its best."""
    matrices = {"real": results["references"]["real"]["confusion"]}
    matrices |= {name: best(run["scores"])["confusion"] for name, run in results["runs"].items()}
    columns = min(4, len(matrices))
    rows = -(-len(matrices) // columns)
    figure = Figure(figsize=(3.2 * columns, 3.2 * rows), layout="constrained")
    for axes in figure.subplots(rows, columns, squeeze=False).flat:
        axes.axis("off")
    for axes, (name, matrix) in zip(figure.axes, matrices.items(), strict=False):
        axes.axis("on")
        axes.imshow([[value / max(1, sum(row)) for value in row] for row in matrix], vmin=0, vmax=1, cmap="viridis")
        axes.set(title=name, xlabel="judged", ylabel="asked for")
    figure.savefig(path, dpi=110)


def plot_curves(runs: Mapping[str, Sequence[dict[str, str]]], path: Path) -> None:
    """Plot the conditional bits per dimension of every epoch, from the rows of each run's metrics.csv."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    axes = figure.subplots(1, 2, sharey=True)
    for name, rows in runs.items():
        for place, split in zip(axes, ("train", "val"), strict=True):
            points = [(int(row["epoch"]), float(row["bits_per_dim"])) for row in rows
                      if row["split"] == split and row["bits_per_dim"]]
            if points:
                place.plot(*zip(*points, strict=True), label=name, marker="o", markersize=3)
    axes[0].set(title="training", xlabel="epoch", ylabel="conditional bits per dimension")
    axes[1].set(title="validation", xlabel="epoch")
    if axes[0].lines:
        axes[0].legend(fontsize=7)
    figure.savefig(path, dpi=110)


def plot_samples(columns: Sequence[Tensor], titles: Sequence[str], path: Path) -> None:
    """Draw a row for each scene and a column for each model; images ``(rows, 3, H, W)`` in [0, 1]."""
    rows, (height, width) = len(columns[0]), columns[0].shape[2:]
    figure = Figure(figsize=(2.4 * len(columns), 2.4 * height / width * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for j, (images, title) in enumerate(zip(columns, titles, strict=True)):
        grid[0, j].set_title(title, fontsize=9)
        for i, image in enumerate(images):
            grid[i, j].imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            grid[i, j].axis("off")
    figure.savefig(path, dpi=160)
