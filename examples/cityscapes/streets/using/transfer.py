"""Transfer of one photo's content to the structure of another label map (section 5.4 of the Full-Glow paper)."""

from functools import partial
from pathlib import Path

from torch import Tensor

from streets.config.transfer import Config
from streets.data.items import Item
from streets.data.pairs import to_bytes
from streets.data.reading import LabelMaps, read_label_map, read_photo
from streets.runs.directory import writing
from streets.runs.pictures import save_image
from streets.runs.run import Run
from streets.runs.samples import denoised
from streets.using.drawing import save_grid, tensors
from streets.using.scenes import check_no_options_of_data, find, open_run, open_scenes, read_side, with_data

REFUSED = {
    "glow": "it reads no label map, so every result would be the content as it was",
    "pix2pix": "it cannot turn a photo into noise",
    "flow_matching": "it goes from noise to photos alone",
}
"""Models that cannot transfer content, and the reasons."""


def transfer(config: Config) -> None:
    """Write f^-1(z given the other label map), where z = f(photo given its label map), for all pairs."""
    run, size = open_run(config)
    if run.name in REFUSED:
        raise ValueError(f"{run.path} is a run of {run.name}: {REFUSED[run.name]}; give a conditional flow")
    if run.direction != "label2photo":
        raise ValueError(f"{run.path} is a {run.direction} model: give a label2photo model")
    pairs = choose(config, run, size)
    with writing(config.out, config.overwrite):
        save_grid([put(run, content, structure, config) for content, structure in pairs], config.out / "grid.png")
    print(f"{config.out}/grid.png, and each image in a file of its own beside it")


def put(run: Run, content: Item, structure: Item, config: Config) -> list:
    """Put a content on a structure, write the images, and return them, content first."""
    name = f"{content['name']}_on_{structure['name']}"
    result, error = move(run, content, structure, config.seed)
    images = {f"{content['name']}_content": content["photo"],
              f"{structure['name']}_structure": structure["condition"], name: result}
    if "photo" in structure:
        images[f"{structure['name']}_real"] = structure["photo"]
    for stem, image in images.items():
        save_image(image, config.out / stem)
    print(f"{name}: on its own label map the content is the photo again, to {error:.1e} (images are in 0 to 1)")
    return list(images.values())


def move(run: Run, content: Item, structure: Item, seed: int) -> tuple[Tensor, float]:
    """Put a content on a structure, values of files; with it goes its error on its own label map."""
    context, photo = tensors(run, content, seed)
    noise = run.model.transform_to_noise(photo, context)
    other = tensors(run, structure, seed)[0]
    result = denoised(run.model, run.model.transform_from_noise(noise, other), other, run.noise)
    error = float((run.model.transform_from_noise(noise, context) - photo).abs().max())
    return to_bytes(result[0], f"{content['name']}_on_{structure['name']}", run.wanted.bits).cpu(), error


def choose(config: Config, run: Run, size: tuple[int, int]) -> list[tuple[Item, Item]]:
    """Return the pairs of items, content and structure."""
    files = (config.content_photo, config.content_label, config.structure_label)
    if any(files):
        photo, label, structure = files
        if photo is None or label is None or structure is None or config.content or config.structure or config.data:
            raise ValueError("give --content-photo, --content-label and --structure-label together, or --data, "
                             "--content and --structure")
        check_no_options_of_data(run, config, "single files")
        size = run.size_for(structure, config.image_size, config.tile)
        run.check_size(size)
        read = partial(read_side, run, size=size, values=config.label_values)
        if not run.of_images:
            check_belong(photo, label, LabelMaps(run.labels, config.label_values))
        return [(read("condition", label) | read("photo", photo), read("condition", structure))]
    if not config.content or len(config.content) != len(config.structure):
        raise ValueError(f"expected as many scenes of --content as of --structure, got {len(config.content)} and "
                         f"{len(config.structure)}: give an equal number of both, at least one")
    dataset = open_scenes(run, with_data(run, config), size)
    return [(dataset[a], dataset[b])
            for a, b in zip(find(dataset, config.content), find(dataset, config.structure), strict=True)]


def check_belong(photo: Path, label: Path, maps: LabelMaps) -> None:
    """Refuse a photo and a label map that are not of one scene, as far as names of Cityscapes and sizes tell."""
    of_label, of_photo = read_label_map(label, maps=maps), read_photo(photo)
    named = photo.stem.endswith("_leftImg8bit") and "_gtFine_" in label.stem
    if named and of_photo["name"] != of_label["name"]:
        raise ValueError(f"expected the label map of {photo} as --content-label, got that of another scene, {label}: "
                         "give the two files of one scene")
    (height, width), (rows, columns) = of_photo["photo"].shape[1:], of_label["label"].shape
    if (height, width) != (rows, columns):
        raise ValueError(f"expected --content-label {label} as large as --content-photo {photo}, {height}x{width}, got "
                         f"{rows}x{columns}: give the two files of one scene, or resize the label map with nearest "
                         "neighbour")
