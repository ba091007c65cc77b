"""Groups of options in the help of the scripts; options that are in none come first."""

GROUPS = {
    "data": ("data", "side", "dataset", "split", "cities", "pairs", "extra", "indices", "scenes", "label_maps",
             "photos", "given", "content", "structure", "content_photo", "content_label", "structure_label",
             "image_size", "base_size", "tile", "flip", "crop", "scale", "generated", "labels", "label_values",
             "skip_unpaired", "skip_bad_files", "workers"),
    "model": ("model", "direction", "dequantization", "boundaries", "steps", "width", "context_width", "layers",
              "classes", "nets", "weights"),
    "training": ("epochs", "batch_size", "accumulate", "learning_rate", "warmup_steps", "linear_decay", "clip_norm",
                 "ema", "source_weight", "aux_weight", "label_dropout", "noise", "init_pairs", "precision", "compile",
                 "checkpoint_activations", "skip_bad_batches"),
    "sample": ("samples", "temperature", "temperatures", "sweep", "guidance", "repeats", "picture_temperature"),
    "measurement": ("judge", "judge_weights", "draws", "score"),
    "output": ("out", "augment", "overwrite", "resume", "keep", "validate_every", "checkpoint_every", "shard",
               "num_shards"),
}
"""Names of options by group."""
OF_EVALUATION = GROUPS | {"training": ()}
OF_CLASSIFIER = GROUPS | {"model": ("layers", "width", "classes"), "training": (*GROUPS["training"], "steps")}
"""Groups where an option means something else."""
