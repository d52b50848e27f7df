"""``python -m ptyonnx`` runs the command line."""

import sys

from ptyonnx.cli import main

if __name__ == "__main__":
    sys.exit(main())
