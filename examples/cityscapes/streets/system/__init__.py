"""Parts that know nothing of streets: command line, processes, signals, files, locks, devices, seeds."""
