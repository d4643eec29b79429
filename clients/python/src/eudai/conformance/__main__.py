"""Runs the check by `python -m eudai.conformance`."""

import sys

from eudai.conformance import main

sys.exit(main())
