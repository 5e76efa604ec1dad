"""Run ``pykdump`` as ``python -m pykexec.kdump``."""

from pykexec.kdump.cli import main

main()
