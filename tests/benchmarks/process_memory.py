"""Peak memory of whole trainings, in processes of their own, beside what ``train.py --dry-run`` predicts.

    OMP_NUM_THREADS=1 python tests/benchmarks/process_memory.py
    OMP_NUM_THREADS=1 python tests/benchmarks/process_memory.py --model glow --image-size 256 512 --steps 2 2 --width 16

Trains the models of ``OPTIONS``, or one of the options that are given, for an epoch on a few drawn scenes, with and
without MALLOC_MMAP_THRESHOLD_, and prints GiB.
"""

import os
import subprocess
import sys
import tempfile
from pathlib import Path

SCRIPTS = Path(__file__).parents[2] / "examples" / "cityscapes"
NATIVE = "--model full_glow --preset native-1024x2048 --generated 2"
OPTIONS = [
    f"{NATIVE} --image-size 256 512 --steps 1 1 1 1 --width 8 --context-width 8",
    f"{NATIVE} --image-size 512 1024 --steps 1 1 1 1 --width 8 --context-width 8",
    f"{NATIVE} --image-size 512 1024 --steps 2 2 2 2 --width 32 --context-width 8",
    f"{NATIVE} --image-size 512 1024 --steps 1 1 1 1 --width 128 --context-width 8",
    "--model glow --image-size 256 512 --steps 2 2 --width 16 --generated 8 --init-pairs 1",
    "--model glow --image-size 256 512 --steps 1 1 --width 8 --generated 32 --init-pairs 32 --batch-size 1 --pairs 32",
    "--model encoded_glow --image-size 256 512 --steps 2 2 2 --width 16 --batch-size 2 --generated 4 --init-pairs 4",
    "--model pix2pix --image-size 256 512 --width 16 --batch-size 2 --generated 4",
]
PROGRAM = """
import resource, sys
import train
from streets.training import costs
config = train.parse(sys.argv[2:])
if sys.argv[1] == "predict":
    found = costs.predict(config)
    print(found.process(False) / 2**30, found.process(True) / 2**30)
else:
    train.main(sys.argv[2:])
    print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20)
"""


def run(what: str, options: list[str], threshold: str | None = None) -> list[float]:
    """Return the numbers in the last line that a process prints."""
    environment = os.environ | {"PYTHONPATH": str(SCRIPTS)}
    environment |= {} if threshold is None else {"MALLOC_MMAP_THRESHOLD_": threshold}
    with tempfile.TemporaryDirectory() as folder:
        fixed = ["--epochs", "1", "--device", "cpu", "--out", f"{folder}/run"]
        done = subprocess.run([sys.executable, "-c", PROGRAM, what, *options, *fixed], env=environment, check=True,
                              text=True, stdout=subprocess.PIPE)
    return [float(number) for number in done.stdout.splitlines()[-1].split()]


def main() -> None:
    """Print a line for each training."""
    print("with threshold: predicted, measured | without: predicted at most, measured")
    for options in [sys.argv[1:]] if sys.argv[1:] else [text.split() for text in OPTIONS]:
        low, high = run("predict", options)
        (with_threshold,), (without,) = run("train", options, "1000000"), run("train", options)
        print(f"{low:.2f} {with_threshold:.2f} | {high:.2f} {without:.2f} | {' '.join(options)}", flush=True)


if __name__ == "__main__":
    main()
