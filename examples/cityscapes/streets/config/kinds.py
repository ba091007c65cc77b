"""Kinds of models, by name: options are checked before the models, and with them torch, are imported."""

WITHOUT_LIKELIHOOD = {"pix2pix", "flow_matching"}
WITHOUT_TEMPERATURE = {"pix2pix"}
TWO_GLOWS = {"full_glow", "dual_glow", "c_flow"}
"""Models that model the given image too, and need a ``source_weight``."""
OF_LABEL_IDS = {"encoded_glow", "flow_matching"}
"""Models that read the ids of a label map, not its colours."""
