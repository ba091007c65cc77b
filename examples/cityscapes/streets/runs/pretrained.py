"""Trained models as directories: ``config.json`` and ``model.safetensors``, on this disk or on the Hugging Face hub.

    model = Pretrained.from_run(Path("runs/full_glow"))
    model.save_pretrained("full_glow_camvid")
    model = Pretrained.from_pretrained("full_glow_camvid")
    samples = model.sample(5, x_a, temperature=0.8)
    model.push_to_hub("your_name/full_glow_camvid")

The files are those of a run, so evaluate.py, sample.py and transfer.py take such a directory too.
"""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from condflows.trace import Context
from streets.config.kinds import WITHOUT_TEMPERATURE
from streets.config.temperatures import check_temperature
from streets.data.pixels import PairPixels
from streets.runs import configuration, samples
from streets.runs import weights as stored
from streets.system import files

try:
    from huggingface_hub import ModelCard, PyTorchModelHubMixin, snapshot_download
except ImportError as error:
    raise ImportError("streets.runs.pretrained needs huggingface_hub: pip install 'condflows[hub]'") from error

CONFIG = ("model", "model_arguments", "image_size", "direction", "boundaries", "dequantization", "nets", "cities",
          "tile", "noise", "label_dropout", "guidance", "labels", "label_table", "label_values", "data",
          "data_statistics", "pixels", "has_label_maps", "versions")
"""Keys of a run's config.json that an exported one keeps; of data only that they were drawn, and no path."""
DEFAULTS: dict[str, Any] = {"direction": "label2photo", "boundaries": False, "dequantization": "uniform",
                            "nets": "float32", "cities": [], "tile": False, "noise": 0.0, "label_dropout": 0.0,
                            "guidance": 0.0, "labels": "cityscapes", "label_table": None, "label_values": None,
                            "pixels": PairPixels().as_stored(), "has_label_maps": True}
"""Values of the keys that older runs lack."""

CARD = """
---
{{ card_data }}
---

# {{ model }}, {{ direction }}, {{ height }}x{{ width }}

A model of the examples of condflows {{ version }} (conditional normalizing flows for torch), one of those that the
Full-Glow paper compares ({{ paper_url }}). With `condflows/examples/cityscapes` on the path,

```python
from streets.runs.pretrained import Pretrained

model = Pretrained.from_pretrained("...")  # the name or the directory of this model
samples = model.sample(5, x_a{{ ", temperature=0.8" if temperature }})  # (batch, 5, {{ channels[1] }}, height, width)
```

{% if labels -%}
`x_a` are maps of label ids of {{ label_set }}, integers (batch, 1, height, width), 255 where nothing is known.
The samples are {{ wanted }}, float in [0, 1).
{%- else -%}
`x_a` are {{ given }} and the samples {{ wanted }}, both float in [0, 1).
`x_a` has the shape (batch, {{ channels[0] }}, height, width).
{%- endif %}
{%- if boundaries %}
The model takes `(x_a, side)`, where `side` of shape (batch, 1, height, width) is 1 on the edges of objects, else 0.
{%- endif %}
{%- if noise %}
It was trained on images with Gaussian noise of deviation {{ noise }}, which `sample` removes; `log_prob` is of these.
{%- endif %}

`config.json` says how the model was built and what its data was like, and `model.safetensors` holds its weights.
"""
IMAGES_ALONE = {"label2photo": ("images A", "images B"), "photo2label": ("images B", "images A")}
IMAGES = {"label2photo": ("label maps in the colours of {}", "photos"),
          "photo2label": ("photos", "label maps in the colours of {}")}


class Pretrained(
    nn.Module,
    PyTorchModelHubMixin,
    library_name="condflows",
    tags=["normalizing-flows", "conditional-density-estimation", "image-synthesis"],
    pipeline_tag="image-to-image",
    paper_url="https://arxiv.org/abs/2012.05846",
    model_card_template=CARD,
):
    """A model and its configuration, with the methods of the hub.

    Args:
        config: content of a ``config.json`` of ``train.py``; of its keys those in ``CONFIG`` are kept.
    """

    def __init__(self, config: Mapping[str, Any]):
        super().__init__()
        given = DEFAULTS | json.loads(json.dumps(dict(config), default=str))
        configuration.check_config(given, "config")
        if given["label_table"]:  # the table is kept, and no path
            given["labels"] = Path(given["labels"]).name
        if given.get("data") is not None or given.get("dataset") is not None:
            given.pop("data", None)
        self.config: dict[str, Any] = {key: given[key] for key in CONFIG if key in given}
        self.model: Any = configuration.build_model(self.config, "config")

    @classmethod
    def from_run(cls, run: Path, weights: str = "best", map_location: str | torch.device = "cpu") -> "Pretrained":
        """Load the best or the last weights of a run of ``train.py``, ready to sample from."""
        return cls._load(configuration.read_config(run), stored.weights_file(run, weights), map_location)

    @classmethod
    def from_pretrained(cls, pretrained_model_name_or_path: str | Path, **options: Any) -> "Pretrained":
        """Load the model in a directory, or else of that name on the hub; only safetensors are read.

        Beside the mixin's options: ``weights``, as in ``from_run``, and ``map_location``, a device.

        Raises:
            FileNotFoundError: a ``Path`` where there is no directory.
            ValueError: files that are damaged, of something else, or of a newer condflows.
        """
        directory = Path(pretrained_model_name_or_path)
        if directory.is_dir():
            configuration.read_config(directory)  # the mixin reads it too, but its messages do not name the file
        elif isinstance(pretrained_model_name_or_path, Path):
            raise FileNotFoundError(f"expected a model in {directory}, but there is no such directory: check the path, "
                                    "or pass text, the name of a model on the hub")
        return super().from_pretrained(pretrained_model_name_or_path, **options)

    def save_pretrained(self, save_directory: str | Path, **options: Any) -> str | None:
        """Write the model, as the mixin does, into any directory but one that holds a training."""
        if stored.has_training(Path(save_directory)):
            raise ValueError(f"{save_directory} holds a training, whose files would no longer belong together: give "
                             "another directory")
        return super().save_pretrained(save_directory, **options)

    def forward(self, *inputs: Any, **options: Any) -> Any:
        """Call the model itself."""
        return self.model(*inputs, **options)

    def log_prob(self, inputs: Tensor, context: Context = None) -> Tensor:
        """Return the log-density ``(batch,)`` of x_b given the context, in nats, if the model has one."""
        return self.model.log_prob(inputs, context)

    def sample(self, num_samples: int, context: Context = None, temperature: float | Sequence[float] = 1.0,
               generator: torch.Generator | None = None, guidance: float = 0.0) -> Tensor:
        """Draw samples ``(contexts, num_samples, channels, height, width)``; the noise of the training is removed.

        A ``temperature`` may be one for each level, finest first. ``guidance`` is the weight by which a model of
        ``--label-dropout`` moves away from photos without labels.
        """
        if guidance and not self.config["label_dropout"]:
            raise ValueError(f"guidance {guidance:g}: the model was not trained with --label-dropout, so it does not "
                             "know photos without labels; leave it out")
        check_temperature(temperature, self.config["model"], configuration.levels_of(self.config), "temperature")
        channels = PairPixels.of_config(self.config).sides(self.config["direction"])[1].channels
        return samples.sample(self.model, num_samples, context, temperature, generator, guidance, channels,
                              self.config["noise"])

    def generate_model_card(self, *args: Any, **options: Any) -> ModelCard:
        """Write the README.md of the model."""
        (height, width), direction = self.config["image_size"], self.config["direction"]
        label_set = Path(self.config.get("labels", "cityscapes")).name
        label_set = "Cityscapes" if label_set == "cityscapes" else label_set
        images = IMAGES if self.config.get("has_label_maps", True) else IMAGES_ALONE
        given, wanted = (text.format(label_set) for text in images[direction])
        pixels = PairPixels.of_config(self.config).sides(direction)
        facts = {"model": self.config["model"], "direction": direction, "height": height, "width": width,
                 "version": configuration.versions()["condflows"],
                 "temperature": self.config["model"] not in WITHOUT_TEMPERATURE, "given": given, "wanted": wanted,
                 "boundaries": self.config["boundaries"], "noise": self.config["noise"], "label_set": label_set,
                 "channels": [of.channels for of in pixels],
                 "labels": self.config["model_arguments"].get("classes") is not None}
        return super().generate_model_card(*args, **facts | options)

    def _save_pretrained(self, save_directory: Path) -> None:
        stored.save_weights(self.model, save_directory / stored.WEIGHTS["last"])
        files.write_json(save_directory / "config.json", self.config | {"versions": configuration.versions()})

    @classmethod
    def _from_pretrained(
        cls, *, model_id: str, config: Mapping[str, Any] | None = None, weights: str = "best",
        map_location: str | torch.device = "cpu", revision: str | None = None, cache_dir: str | Path | None = None,
        force_download: bool = False, local_files_only: bool = False, token: str | bool | None = None, **others: Any,
    ) -> "Pretrained":
        unknown = others.keys() - {"proxies", "resume_download"}  # which the mixin itself adds before its version 1
        if unknown:
            raise TypeError(f"from_pretrained got {', '.join(sorted(unknown))}, which it does not take: leave it out")
        directory = Path(model_id)
        if not directory.is_dir():
            directory = Path(snapshot_download(
                model_id, allow_patterns=["config.json", "metrics.csv", *stored.WEIGHTS.values()], revision=revision,
                cache_dir=cache_dir, force_download=force_download, local_files_only=local_files_only, token=token))
        return cls._load(configuration.read_config(directory) if config is None else config,
                         stored.weights_file(directory, weights), map_location)

    @classmethod
    def _load(cls, config: Mapping[str, Any], weights: Path, map_location: str | torch.device) -> "Pretrained":
        """Load a model from its configuration and a file of weights."""
        pretrained = cls(config)
        stored.load_weights(pretrained.model, weights, pretrained.config)
        return pretrained.to(map_location).eval()
