"""The benchmark with options of its own."""

from __future__ import annotations

import sys

from benchmarks.prefect import main

if __name__ == "__main__":
    main(sys.argv[1:])
