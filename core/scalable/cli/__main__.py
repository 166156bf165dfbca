"""``python -m scalable.cli``: the same as the ``scalable`` command."""

import sys

from scalable.cli import main

if __name__ == "__main__":
    sys.exit(main())
