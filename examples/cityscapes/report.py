"""Tables and plots of an evaluation's results."""

from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from matplotlib.figure import Figure
from torch import Tensor

from judging import SCORES

Results = dict[str, Any]
REFERENCES = {"real": "real images (ceiling)", "mean colours": "mean colour of each class (floor)",
              "another scene's": "another scene's image (floor)"}


def best(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """The scores at the temperature of the highest mean IoU."""
    return max(scores, key=lambda score: score["mean_iou"]["mean"])


def shown(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The scores of a run that its rows of the table show: at temperature 1 (else the nearest), and at its best."""
    plain = min(run["scores"], key=lambda score: 0 if score["temperature"] is None else abs(score["temperature"] - 1))
    return [plain] if best(run["scores"]) is plain else [plain, best(run["scores"])]


def markdown(results: Results) -> str:
    """Table 1 (all models), Table 2 (all temperatures) and the classes."""
    settings = results["settings"]
    height, width = settings["image_size"]
    lines = [
        f"{settings['pairs']} pairs of `{settings['split']}` at {height}x{width}, judge {settings['judge']}, "
        f"{settings['repeats']} syntheses. Bits per dimension: mean ± standard error over the pairs, of "
        f"{settings['draws']} draw(s) of dequantization noise. Scores in percent: mean ± standard deviation over the "
        "syntheses. Distance: root mean square difference of two samples of a scene, images in 0 to 1; changed: "
        "percentage of pixels whose class the judge changes between them. GFLOP an image: of a training step.", "",
        *table(["model", "bits per dimension", "temperature", *SCORES.values(), "distance", "changed", "parameters",
                "images seen", "GFLOP an image"], table_1(results)), "",
    ]
    if any(len(run["scores"]) > 1 for run in results["runs"].values()):
        lines += [*table(["model", "temperature", *SCORES.values(), "distance", "changed"], table_2(results)), ""]
    lines += ["IoU of each class, at each model's best temperature:", "",
              *table(["class", *results["runs"], *results["references"]], table_of_classes(results)), ""]
    return "\n".join(lines)


def table_1(results: Results) -> Iterator[list[str]]:
    for name, run in results["runs"].items():
        bits, training = run["bits_per_dim"], run["training"]
        first = [name, "" if bits is None else number(bits["mean"], bits["standard_error"], 3)]
        cost = ["", ""] if training is None else [f"{training['images']:,}", f"{training['gflop_per_image']:.1f}"]
        last = [f"{run['parameters']:,}", *cost]
        for score in shown(run):
            yield [*first, *row_of(score), *last]
            first, last = [name, ""], [""] * 3
    for name, title in REFERENCES.items():
        if score := results["references"].get(name):
            yield [title, "", "", *(f"{score[key]:.2f}" for key in SCORES), "", "", "", "", ""]


def table_2(results: Results) -> Iterator[list[str]]:
    for name, run in results["runs"].items():
        for score in run["scores"]:
            yield [name, *row_of(score)]


def table_of_classes(results: Results) -> Iterator[list[str]]:
    of_runs = [best(run["scores"])["class_iou"] for run in results["runs"].values()]
    of_references = [score["class_iou"] for score in results["references"].values()]
    for name in results["references"]["real"]["class_iou"]:
        yield [name, *(f"{scores[name]:.1f}" for scores in (*of_runs, *of_references))]


def row_of(score: dict[str, Any]) -> list[str]:
    """Temperature, the three scores, distance and change."""
    temperature = "" if score["temperature"] is None else f"{score['temperature']:g}"
    scores = [number(score[key]["mean"], score[key]["deviation"], 2) for key in SCORES]
    if score["distance"] is None:  # of a single sample
        return [temperature, *scores, "", ""]
    return [temperature, *scores, f"{score['distance']:.3f}", f"{score['changed']:.1f}"]


def number(mean: float, deviation: float | None, digits: int) -> str:
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def table(titles: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    return ["| " + " | ".join(cells) + " |" for cells in (titles, ["---"] * len(titles), *rows)]


def plot_temperatures(results: Results, path: Path) -> None:
    """The three scores against temperature, ceiling and floors as lines."""
    figure = Figure(figsize=(12, 4), layout="constrained")
    for axes, (key, title) in zip(figure.subplots(1, 3), SCORES.items(), strict=True):
        for name, run in results["runs"].items():
            points = [(1.0 if score["temperature"] is None else score["temperature"], score[key]["mean"],
                       score[key]["deviation"] or 0) for score in run["scores"]]
            axes.errorbar(*zip(*points, strict=True), label=name, marker="o", markersize=4)
        for (name, score), style in zip(results["references"].items(), (":", "--", "-."), strict=False):
            axes.axhline(score[key], color="gray", linestyle=style, linewidth=1, label=name)
        axes.set(xlabel="temperature", ylabel=f"{title}, percent", ylim=(0, None))
    axes.legend(fontsize=7)
    figure.savefig(path, dpi=110)


def plot_classes(results: Results, path: Path) -> None:
    """IoU of each class at each model's best temperature, beside ceiling and floors."""
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
    """Confusion matrices, rows (what was asked for) in percent: real images, and each model at its best temperature."""
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
    """Conditional bits per dimension of every epoch, from the rows of each run's metrics.csv."""
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
    """A row for each scene and a column for each model; images ``(rows, 3, H, W)`` in uint8."""
    rows, (height, width) = len(columns[0]), columns[0].shape[2:]
    figure = Figure(figsize=(2.4 * len(columns), 2.4 * height / width * rows + 0.3), layout="constrained")
    grid = figure.subplots(rows, len(columns), squeeze=False)
    for j, (images, title) in enumerate(zip(columns, titles, strict=True)):
        grid[0, j].set_title(title, fontsize=9)
        for i, image in enumerate(images):
            grid[i, j].imshow(image.permute(1, 2, 0).numpy(), interpolation="nearest")
            grid[i, j].axis("off")
    figure.savefig(path, dpi=160)
