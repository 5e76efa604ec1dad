"""The kdump service: keeps a capture kernel loaded that fits the machine, and knows whether it works.

`plan.make` decides what to load, `actions` does it and leaves a receipt, `state` says where things stand,
and `trial` proves it by a crash. `lock` lets one process at a time do so, and `trust` says which files
nobody but root can have changed.
"""
