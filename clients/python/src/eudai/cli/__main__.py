"""Runs the command line by `python -m eudai.cli`."""

import sys

from eudai.cli import main

sys.exit(main())
