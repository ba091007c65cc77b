"""Device that a process computes on."""

import torch

from streets.system import processes


def choose_device(name: str | None) -> torch.device:
    """Return the device of that name; for None a GPU if there is one, else the CPU.

    With several processes ``cuda`` is a different GPU in each of them.

    Raises:
        ValueError: torch knows no such device, or cannot use it here.
    """
    try:
        device = torch.device(("cuda" if torch.cuda.is_available() else "cpu") if name is None else name)
        if device == torch.device("cuda") and processes.world() > 1:
            device = torch.device("cuda", processes.local_rank())
            if device.index >= torch.cuda.device_count():
                raise ValueError(f"no GPU for process {processes.rank()}, number {device.index} of a machine with "
                                 f"{torch.cuda.device_count()} GPUs: start one for each GPU, or name a --device")
        torch.empty(0, device=device)
        if device.type == "meta":
            raise RuntimeError("it holds no values")
    except (RuntimeError, AssertionError) as error:  # AssertionError where torch was built without CUDA
        reason = str(error).splitlines()[0].split(". ")[0].rstrip(".")
        raise ValueError(f"--device {name}: {reason}: give cpu, or cuda:0 where torch finds a GPU") from error
    return device
