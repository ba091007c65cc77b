"""Tables of an evaluation's results."""

from collections.abc import Iterator, Sequence
from typing import Any

from streets.config.temperatures import each, text
from streets.judging.scores import SCORES

Results = dict[str, Any]
REFERENCES = {"real": "real images (ceiling)", "mean colours": "mean colour of each class (floor)",
              "another scene's": "another scene's image (floor)"}
"""Titles of the ceiling and the floors."""


def judged(results: Results) -> bool:
    """Tell if a judge scored the samples."""
    return bool(results["references"])


def best(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the scores at the temperature of the highest mean IoU; without a judge, at that nearest to 1."""
    if not all("mean_iou" in score for score in scores):
        return plain(scores)
    return max(scores, key=lambda score: score["mean_iou"]["mean"])


def plain(scores: Sequence[dict[str, Any]]) -> dict[str, Any]:
    """Return the scores at temperature 1, or at the nearest to it."""
    return min(scores, key=lambda score: off_one(score["temperature"]))


def shown(run: dict[str, Any]) -> list[dict[str, Any]]:
    """Choose the scores of a run for Table 1: at temperature 1 (or the nearest), and at the best if different."""
    at_one, at_best = plain(run["scores"]), best(run["scores"])
    return [at_one] if at_best is at_one else [at_one, at_best]


def off_one(temperature: float | Sequence[float] | None) -> float:
    """Return how far a temperature is from 1: the farthest of several; 0 for a model that has none."""
    return max(abs(value - 1) for value in each(1.0 if temperature is None else temperature))


def markdown(results: Results) -> str:
    """Write Table 1 (all models), Table 2 (all temperatures) and the table of classes in Markdown."""
    settings, scored = results["settings"], judged(results)
    height, width = settings["image_size"]
    measures = [*SCORES.values(), "distance", "changed"] if scored else ["distance"]
    lines = [
        f"{settings['pairs']} pairs of {settings['data']}, split `{settings['split']}`, at {height}x{width}, "
        f"{'judge ' + settings['judge'] if scored else 'no judge'}, {settings['repeats']} syntheses. "
        "Bits per dimension: mean ± standard error over the pairs, of "
        f"{settings['draws']} draw(s) of dequantization noise. "
        f"{'Those of noisy images cannot be compared with others. ' * any_noise(results)}"
        f"{'Scores in percent: mean ± standard deviation over the syntheses. ' * scored}"
        "Distance: root mean square difference of two samples of a scene, images in 0 to 1. "
        f"{'Changed: percentage of pixels whose class the judge changes between them. ' * scored}"
        "Reconstruction: largest difference of an image from what its noise gives back. "
        "GFLOP an image: of a training step.", "",
        *table(["model", "bits per dimension", "temperature", *measures, "reconstruction", "parameters", "images seen",
                "GFLOP an image"], table_1(results)), "",
    ]
    if any(len(run["scores"]) > 1 for run in results["runs"].values()):
        lines += [*table(["model", "temperature", *measures], table_2(results)), ""]
    if scored:
        lines += ["IoU of each class, at each model's best temperature:", "",
                  *table(["class", *results["runs"], *results["references"]], table_of_classes(results)), ""]
    return "\n".join(lines)


def any_noise(results: Results) -> bool:
    """Tell if a model was trained on noisy images."""
    return any(run.get("noise") for run in results["runs"].values())


def table_1(results: Results) -> Iterator[list[str]]:
    """Yield the rows of all models, the ceiling and the floors."""
    for name, run in results["runs"].items():
        bits, training = run["bits_per_dim"], run["training"]
        first = [name, "" if bits is None else bits_cell(bits, run.get("noise", 0.0))]  # older ones lack it
        cost = ["", ""] if training is None else [f"{training['images']:,}", f"{training['gflop_per_image']:.1f}"]
        last = [reconstruction_cell(run["reconstruction"]), f"{run['parameters']:,}", *cost]
        for score in shown(run):
            yield [*first, *row_of(score), *last]
            first, last = [name, ""], [""] * 4
    for name, title in REFERENCES.items():
        if score := results["references"].get(name):
            yield [title, "", "", *(f"{score[key]:.2f}" for key in SCORES), *[""] * 6]


def reconstruction_cell(figures: dict[str, Any] | None) -> str:
    """Format the largest difference of a reconstruction; nothing for a model that has none."""
    if figures is None:
        return ""
    return "not finite" if figures["largest"] is None else f"{figures['largest']:.1e}"


def bits_cell(bits: dict[str, Any], noise: float) -> str:
    """Format the bits per dimension, beside those of one draw where there are several; of noisy images it says so."""
    text = number(bits["mean"], bits["standard_error"], 3) + (f", with noise {noise:g}" if noise else "")
    if "mean_of_one_draw" not in bits or bits["draws"] == 1:  # older evaluations lack it
        return text
    return f"{text} (one draw {bits['mean_of_one_draw']:.3f})"


def table_2(results: Results) -> Iterator[list[str]]:
    """Yield the rows of all temperatures."""
    for name, run in results["runs"].items():
        for score in run["scores"]:
            yield [name, *row_of(score)]


def table_of_classes(results: Results) -> Iterator[list[str]]:
    """Yield the rows of all classes."""
    of_runs = [best(run["scores"])["class_iou"] for run in results["runs"].values()]
    of_references = [score["class_iou"] for score in results["references"].values()]
    for name in results["references"]["real"]["class_iou"]:
        yield [name, *(f"{scores[name]:.1f}" for scores in (*of_runs, *of_references))]


def row_of(score: dict[str, Any]) -> list[str]:
    """Format the cells of temperature, the three scores, distance and change."""
    temperature = "" if score["temperature"] is None else text(score["temperature"])
    if score.get("guidance"):  # older evaluations lack it
        temperature += f", guidance {score['guidance']:g}"
    scores = [number(score[key]["mean"], score[key]["deviation"], 2) for key in SCORES if key in score]
    distance = "" if score["distance"] is None else f"{score['distance']:.3f}"  # None of a single sample
    if not scores:
        return [temperature, distance]
    return [temperature, *scores, distance, "" if score["changed"] is None else f"{score['changed']:.1f}"]


def number(mean: float, deviation: float | None, digits: int) -> str:
    """Format a mean, with its deviation if there is one."""
    return f"{mean:.{digits}f}" + ("" if deviation is None else f" ± {deviation:.{digits}f}")


def table(titles: Sequence[str], rows: Iterator[list[str]]) -> list[str]:
    """Return the lines of a table in Markdown."""
    return ["| " + " | ".join(cells) + " |" for cells in (titles, ["---"] * len(titles), *rows)]
