"""Options of the scripts, one file each. Nothing here imports torch, so that ``--help`` is fast."""
