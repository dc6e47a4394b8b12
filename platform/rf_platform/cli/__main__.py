"""``python -m rf_platform.cli``, for launchers that start modules: `torchrun -m rf_platform.cli train`."""

from rf_platform.cli.entry import main

main()
