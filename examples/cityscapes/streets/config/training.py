"""Options of ``train.py``."""

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from streets.config.data import DataOptions, layout_has_label_maps
from streets.config.kinds import OF_LABEL_IDS
from streets.config.temperatures import Temperature

START_OPTIONS = {"overwrite", "resume", "dry_run", "device"}
"""Options of one start of a run, which its config.json does not keep."""


DIRECTIONS = {"A2B": "label2photo", "B2A": "photo2label"}
"""Other names of directions, of which config.json keeps the second."""


@dataclass
class Config(DataOptions):
    """Options of a training; the config.json of the run keeps them."""

    preset: Literal["small", "paper-256", "paper-512x1024", "native-1024x2048"] = "small"
    """Set of defaults; every other option overrides one of them."""
    model: Literal["full_glow", "c_glow_v1", "c_glow_v2", "dual_glow", "c_flow", "glow", "pix2pix",
                   "encoded_glow", "flow_matching"] = "encoded_glow"
    """Model to train, one of those in models/."""
    direction: Literal["label2photo", "photo2label", "A2B", "B2A"] = "label2photo"
    """Direction of the model: photos given label maps, or label maps given photos. Of pairs of images A is in the place
    of the label map, B in that of the photo: A2B (the same as label2photo) models B given A, B2A models A given B."""
    dequantization: Literal["uniform", "variational"] = "uniform"
    """Noise that makes densities of 8-bit images: uniform, or of a flow of its own that reads the image, which lowers
    the bits and costs time in training alone."""
    boundaries: bool = False
    """Append a map of the edges of objects to every condition of full_glow: edges of instances if the data has them,
    else of labels."""
    data: Path | None = None
    """Folder of the data, in the Cityscapes layout, of folders A and B, or of images side by side (--side); or a .csv
    file of two columns, A and B. generated, or no such option, for drawn scenes."""
    cities: tuple[str, ...] = ()
    """Cities of the training split, its folders, to train on; all of them without this option."""
    labels: str = "cityscapes"
    """Labels of the label maps of --data: a name in streets/data/label_sets, or a .csv or .json file with a table of
    name, id, colour and training id."""
    label_values: Literal["ids", "train_ids", "colors"] | None = None
    """Values of the label maps of --data; without it each file tells, which is refused where it cannot."""
    pairs: int | None = None
    """Number of training pairs, spread evenly over the split; all of them without this option."""
    out: Path | None = None
    """Directory of the run; without it runs/MODEL-PRESET-TIME."""
    overwrite: bool = False
    """Write into a directory that is not empty, and replace the files of an earlier run there."""
    resume: bool = False
    """Resume the run in --out from its last checkpoint, with its settings, or start it if there is none. Options that
    change the model, the data or a step must be the ones that the run was started with."""
    dry_run: bool = False
    """Print parameters, operations and the predicted peak of memory, and exit before anything is allocated."""
    image_size: tuple[int, int] = (32, 64)
    """Height and width in pixels, multiples of 2 ** levels."""
    steps: tuple[int, ...] | None = (4, 4, 4)
    """Number of flow steps in each level, finest first; None for those of the model in its paper."""
    width: int | None = 64
    """Hidden channels of the coupling nets, or first channels of pix2pix and flow_matching; None for the default of the
    model."""
    context_width: int | None = None
    """Hidden channels of the nets that encode a condition; None for the default of the model."""
    checkpoint_activations: bool = False
    """Recompute the activations of each step in the backward pass: less memory, and about a third more time."""
    source_weight: float | None = None
    """Lambda of the paper's objective (11), the weight of the likelihood of the given image; None for models that do
    not model it."""
    batch_size: int = 4
    """Number of pairs in a training step, over all processes."""
    accumulate: int = 1
    """Number of parts in which each process computes its pairs of a step, one after the other, to save memory."""
    precision: Literal["float32", "bf16"] = "float32"
    """Precision of the conditioners' nets in training; all else, validation and samples included, is in float32."""
    nets: Literal["float32", "bfloat16"] = "float32"
    """Precision of the conditioners' nets in training, validation and use alike; bfloat16 is faster for wide nets on
    machines that have units for it, and round trips are then exact to about a level of 8-bit images."""
    compile: bool = False
    """Compile the steps of the flow, which takes minutes at first and is faster from then on."""
    epochs: int = 10
    """Number of passes over the training pairs."""
    learning_rate: float = 2e-3
    """Learning rate of Adam."""
    warmup_steps: int = 100
    """Number of first steps, over which the learning rate rises from 0."""
    linear_decay: bool = True
    """Let the learning rate fall linearly, to 0 at the last step."""
    clip_norm: float | None = 50.0
    """Largest norm of the gradient, to which longer gradients are scaled down; None for no limit."""
    ema: float | None = None
    """Decay of an exponential moving average of the weights, for example 0.999. The average is then validated, sampled
    and saved as the model."""
    label_dropout: float = 0.0
    """Share of the training pairs whose label map is hidden, so that the model knows photos without labels too, for
    guidance; of encoded_glow and flow_matching alone."""
    noise: float = 0.0
    """Standard deviation of Gaussian noise on the images that are modelled, which are in 0 to 1; 0.03 sharpens samples,
    from which it is removed again. Bits per dimension are then of noisy images, and cannot be compared with others. The
    small preset clips gradients at 5 with it."""
    flip: bool = True
    """Mirror half of the training pairs, chosen at random."""
    crop: float = 1.0
    """Least share of height and width of a random crop of each training pair of files, which is resized to
    --image-size; 1 for whole photos. For long trainings on few photos, whose files are larger than --image-size."""
    init_pairs: int = 64
    """Number of training pairs from which the actnorms are initialized, all at once; a few suffice for large images."""
    generated: int = 1280
    """Number of training scenes to generate without --data; an eighth as many are generated for validation."""
    validate_every: int = 2
    """Number of epochs between validations, each with a grid of samples."""
    checkpoint_every: int = 1000
    """Number of steps between checkpoints; every epoch ends with one too, and the last two are kept."""
    skip_bad_batches: int = 0
    """Number of steps that may be skipped because loss or gradient is not finite; one more ends the run."""
    skip_bad_files: bool = False
    """Read all files before the training, and leave out the pairs that cannot be read."""
    temperature: Temperature = 0.9
    """Temperature of the samples in the grids of the validations: one, or one for each level, finest first."""
    guidance: float = 0.0
    """Weight by which the samples in the grids are moved away from photos without labels, with --label-dropout."""
    seed: int = 0
    """Seed of the weights, the order of the data and the noise."""
    device: str | None = None
    """Device, for example cuda:0; without it a GPU if there is one, else the CPU."""
    workers: int = 0
    """Number of processes that read data beside the training."""

    def __post_init__(self) -> None:
        self.direction = DIRECTIONS.get(self.direction, self.direction)  # type: ignore[assignment]

    @property
    def has_label_maps(self) -> bool:
        """True if the data have label maps."""
        return layout_has_label_maps(self.data, self.dataset)

    @property
    def given_labels(self) -> bool:
        """True if the model is given the map of label ids, not an image."""
        return self.model in OF_LABEL_IDS and self.direction == "label2photo" and self.has_label_maps
