"""``python -m pykexec``: the same command line as the ``pykexec`` script."""

from pykexec.cli import main

if __name__ == "__main__":
    main()
