"""What every command must do at its edges: bad files, full and read-only disks, interrupts, second copies.

:mod:`rf_edges.edge` says what is declared of a command, ``*_commands.py`` declare them, :mod:`rf_edges.process` runs one,
:mod:`rf_edges.world` is the workspace that it runs in.
"""
