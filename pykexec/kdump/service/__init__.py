"""The kdump service: keep a capture kernel loaded that fits the machine, and know whether it works.

`plan.make` decides what to load. `actions` loads it and leaves a receipt. `state` reads the present state,
and `trial` proves it by a crash. `lock` admits one process at a time, and `trust` tells which files only
root can have changed.
"""
