"""Options that no training can have, and the arguments of the model that they name."""

import inspect
import math
from typing import Any

from models import MODELS
from streets.config.checks import check_counts, check_finite
from streets.config.kinds import WITHOUT_LIKELIHOOD
from streets.config.temperatures import check_temperature
from streets.config.training import Config
from streets.data import label_sets
from streets.data.labels import LabelSet
from streets.data.pixels import PairPixels
from streets.data.png import MOST_SIDE

MOST_STEPS = 1000
"""Largest number of steps of a level."""
LEAST_DEPTH = {"pix2pix": 5, "flow_matching": 1}
"""Least number of times that a model without steps halves the image."""


def check(config: Config) -> None:
    """Refuse values that no training can have."""
    check_counts(config, epochs=1, pairs=1, batch_size=1, accumulate=1, init_pairs=1, generated=1, width=1,
                 context_width=1, validate_every=1, checkpoint_every=1, warmup_steps=0, skip_bad_batches=0,
                 seed=0, workers=0)
    check_finite(config, "learning_rate")
    check_finite(config, "source_weight", zero=True)
    if config.steps is not None and not (config.steps and all(1 <= steps <= MOST_STEPS for steps in config.steps)):
        raise ValueError(f"--steps {' '.join(map(str, config.steps))}: every level needs 1 to {MOST_STEPS}")
    if config.clip_norm is not None and not config.clip_norm > 0:
        raise ValueError(f"--clip-norm {config.clip_norm}: a positive number is needed; leave it out for no clipping")
    if config.ema is not None and not 0 < config.ema < 1:
        raise ValueError(f"--ema {config.ema}: a number between 0 and 1 is needed, for example 0.999")
    if config.resume and (config.overwrite or config.out is None):
        raise ValueError("--resume goes on with the run in --out: give that directory, and leave out --overwrite")
    if config.model in WITHOUT_LIKELIHOOD and config.dequantization != "uniform":
        raise ValueError(f"--dequantization {config.dequantization}: {config.model} has no likelihood, which it is "
                         "for; leave it out")
    if config.model == "pix2pix" and config.nets != "float32":
        raise ValueError(f"--nets {config.nets}: pix2pix has no nets of condflows, which it is for; leave it out")
    if not 0 < config.crop <= 1:
        raise ValueError(f"--crop {config.crop:g}: a number above 0 and up to 1 is needed, for example 0.85")
    if config.crop < 1 and config.tile:
        raise ValueError(f"--crop {config.crop:g}: tiles are not cropped; give --tile or --crop")
    if config.crop < 1 and config.data is None and config.dataset is None:
        raise ValueError(f"--crop {config.crop:g}: drawn scenes are not cropped; draw more with --generated, or give "
                         "--data")
    if not 0 <= config.noise < 1:
        raise ValueError(f"--noise {config.noise:g}: a number from 0 to below 1 is needed, for example 0.03")
    if config.noise and config.model in WITHOUT_LIKELIHOOD:
        raise ValueError(f"--noise {config.noise:g}: {config.model} has no likelihood, by which the noise is removed "
                         "from samples; leave it out")
    if config.noise and config.dequantization != "uniform":
        raise ValueError(f"--noise {config.noise:g}: --dequantization {config.dequantization} is of images without "
                         "noise; leave one of them out")
    check_finite(config, "guidance", zero=True)
    if not 0 <= config.label_dropout < 1:
        raise ValueError(f"--label-dropout {config.label_dropout:g}: a number from 0 to below 1 is needed")
    if config.label_dropout and not config.given_labels:
        raise ValueError(f"--label-dropout {config.label_dropout:g}: {config.direction} of {config.model} is not given "
                         "labels; leave it out, or choose --model encoded_glow and data with label maps")
    if config.boundaries and not config.has_label_maps:
        raise ValueError("--boundaries are edges of label maps, which these data do not have: leave it out")
    if config.dataset is not None and config.data is not None:
        raise ValueError(f"--dataset {config.dataset} opens the data itself: leave out --data")
    if config.guidance and not config.label_dropout:
        raise ValueError(f"--guidance {config.guidance:g}: without --label-dropout the model does not learn photos "
                         "without labels; leave it out, or give both")
    check_temperature(config.temperature, config.model)


def model_arguments(config: Config, labels: LabelSet | None = None, pixels: PairPixels | None = None) -> dict[str, Any]:
    """Return the arguments of the model's builder, for label maps of these labels, or pairs of these pixels.

    An option that the model lacks, or a wrong size, is an error.
    """
    accepted = inspect.signature(MODELS[config.model]).parameters
    given = {"steps": config.steps, "width": config.width, "context_width": config.context_width,
             "checkpoint": config.checkpoint_activations or None, "side_channels": 1 if config.boundaries else None,
             "classes": (labels or label_sets.read(config.labels)).classes if config.given_labels else None}
    given_pixels, modelled = (pixels or PairPixels()).sides(config.direction)
    channels = {"channels": modelled.channels if modelled.channels != 3 else None,
                "condition_channels": given_pixels.channels if given_pixels.channels != modelled.channels else None}
    given |= {name: value for name, value in channels.items() if name in accepted}  # glow is given nothing
    options = {"checkpoint": "checkpoint_activations", "side_channels": "boundaries"}
    arguments = {name: value for name, value in given.items() if value is not None}
    for name in arguments:
        if name not in accepted:
            raise ValueError(f"--{options.get(name, name).replace('_', '-')}: {config.model} has no such option; "
                             "leave it out")
    height, width = config.image_size
    if not 1 <= min(height, width) <= max(height, width) <= MOST_SIDE:
        raise ValueError(f"--image-size {height} {width}: height and width from 1 to {MOST_SIDE} are needed")
    if "depth" in accepted:  # as many levels as the size allows
        divisor = math.gcd(height, width)
        arguments["depth"] = min(accepted["depth"].default, (divisor & -divisor).bit_length() - 1)
        if arguments["depth"] < (least := LEAST_DEPTH[config.model]):
            raise ValueError(f"--image-size {height} {width}: {config.model} expects multiples of {2**least}")
    else:
        levels = len(arguments.get("steps", accepted["steps"].default))
        check_temperature(config.temperature, config.model, levels)
        if height % 2**levels or width % 2**levels:
            raise ValueError(f"--image-size {height} {width}: {levels} levels expect multiples of {2**levels}")
    return arguments
