"""The content of one photo on the structure of another label map: section 5.4 and Figure 3 of the Full-Glow paper.

    python examples/cityscapes/transfer.py RUN --data ROOT --content 3 10 20 --structure 7 40 60 --out DIR
    python examples/cityscapes/transfer.py RUN --content-photo A.png --content-label A_ids.png \
        --structure-label B_ids.png --out DIR

DIR gets every image at full resolution, and grid.png: a row for each pair, with the photo whose content is wanted, the
label map whose structure is wanted, the result, and the real photo of that structure where there is one. What is
printed beside each pair is a check: the content goes back onto its own label map, which gives the photo again.
"""

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import tyro

import cli


@dataclass
class Config:
    """Which contents go onto which structures."""

    run: tyro.conf.Positional[Path]
    """Directory of a run of train.py."""
    out: Path
    """Directory for the pictures."""
    content: tuple[str, ...] = ()
    """Scenes of the split whose photos give the content, by index or by name."""
    structure: tuple[str, ...] = ()
    """As many scenes whose label maps give the structure."""
    content_photo: Path | None = None
    """Instead of --content: a photo, a PNG file."""
    content_label: Path | None = None
    """Its label map: official ids in one grey channel, or the official colours."""
    structure_label: Path | None = None
    """Instead of --structure: a label map."""
    data: Path | None = None
    """Root of a data set in the Cityscapes layout; scenes are generated as in training if it is left out."""
    split: str = "val"
    """Split of the data set."""
    seed: int = 0
    """Of the noise that makes 8-bit images continuous."""
    image_size: tuple[int, int] | None = None
    """Height and width in pixels, multiples of 2 ** levels; the run's if it is left out."""
    weights: Literal["best", "last"] = "best"
    """Those of the best validation or the last ones."""
    device: str | None = None
    """For example cuda:0; a GPU if there is one, else the CPU."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace files of the same names."""


REFUSED = {
    "glow": "it reads no label map, so every result would be the content as it was",
    "pix2pix": "it cannot turn a photo into noise",
}


def transfer(config: Config) -> None:
    """z = f(photo given its label map), result = f^-1(z given the other label map)."""
    import runs
    from pairs import to_bytes
    from sampling import open_run, save_grid, tensors

    run, size = open_run(config)
    if run.name in REFUSED:
        raise ValueError(f"{run.path} is a run of {run.name}: {REFUSED[run.name]}; give a conditional flow")
    if run.direction != "label2photo":
        raise ValueError(f"{run.path} is a {run.direction} model: give a label2photo model")
    pairs = choose(config, run, size)
    runs.check_free(config.out, config.overwrite)
    config.out.mkdir(parents=True, exist_ok=True)
    rows = []
    for content, structure in pairs:
        context, photo = tensors(run, content, config.seed)
        noise = run.model.transform_to_noise(photo, context)
        result = run.model.transform_from_noise(noise, tensors(run, structure, config.seed)[0])
        error = float((run.model.transform_from_noise(noise, context) - photo).abs().max())
        name = f"{content['name']}_on_{structure['name']}"
        images = {f"{content['name']}_content": content["photo"],
                  f"{structure['name']}_structure": structure["condition"], name: to_bytes(result[0], name).cpu()}
        if "photo" in structure:
            images[f"{structure['name']}_real"] = structure["photo"]
        for stem, image in images.items():
            runs.save_picture(image, config.out / f"{stem}.png")
        rows.append(list(images.values()))
        print(f"{name}: on its own label map the content is the photo again, to {error:.1e} (images are in 0 to 1)")
    save_grid(rows, config.out / "grid.png")
    print(f"{config.out}/grid.png, and each image in a file of its own beside it")


def choose(config: Config, run: Any, size: tuple[int, int]) -> list[tuple[dict, dict]]:
    """The items of content and structure."""
    from sampling import find, open_scenes, read_label_map, read_photo

    files = (config.content_photo, config.content_label, config.structure_label)
    if any(files):
        photo, label, structure = files
        if photo is None or label is None or structure is None or config.content or config.structure or config.data:
            raise ValueError("give --content-photo, --content-label and --structure-label together, or --data, "
                             "--content and --structure")
        return [(read_label_map(label, size) | read_photo(photo, size), read_label_map(structure, size))]
    if not config.content or len(config.content) != len(config.structure):
        raise ValueError(f"expected as many scenes of --content as of --structure, got {len(config.content)} and "
                         f"{len(config.structure)}: give an equal number of both, at least one")
    dataset = open_scenes(run, config, size)
    return [(dataset[a], dataset[b])
            for a, b in zip(find(dataset, config.content), find(dataset, config.structure), strict=True)]


def main(arguments: list[str]) -> None:
    """Transfer as the command line says; a mistake of the user's ends in one line and exit status 2."""
    cli.run("transfer.py", transfer, cli.parse("transfer.py", Config, arguments, description=__doc__))


if __name__ == "__main__":
    main(sys.argv[1:])
