"""``python -m pykexec.kdump`` is ``pykdump``."""

from pykexec.kdump.cli import main

main()
