"""Options of the scripts, one file for each. Nothing here imports torch, so that ``--help`` is fast."""
