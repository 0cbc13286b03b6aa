# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
As fuzz.py, with inputs that run new code, which the package atheris looks for.

    python benchmarks/fuzz_guided.py masks --seconds 600
"""

import os
import sys
import tempfile
import time
from pathlib import Path

# What is imported before is not watched, which keeps it quick.
import astropy.io.fits
import astropy.table  # noqa: F401
import atheris
import ccdproc  # noqa: F401
import scipy.ndimage  # noqa: F401

with atheris.instrument_imports(include=["ccdcr", "yaml"]):
    from fuzz import Trial, log, parse_options


def main():
    """Try inputs and count what became of them."""
    options = parse_options(__doc__.split("\n")[1])
    log.setLevel("ERROR")
    folder = Path(tempfile.mkdtemp())
    trial = Trial(options.target, folder)
    corpus = folder / "corpus"
    corpus.mkdir()
    for number, content in enumerate(trial.seeds):
        corpus.joinpath(str(number)).write_bytes(content)
    end = time.monotonic() + options.seconds

    def one_input(content):
        trial(content)
        if time.monotonic() > end:  # the fuzzer never returns
            trial.report()
            sys.stdout.flush()
            os._exit(bool(trial.failures))

    largest = max(map(len, trial.seeds))
    arguments = [f"-seed={options.seed}", f"-max_len={largest}", "-verbosity=0"]
    atheris.Setup([sys.argv[0], *arguments, str(corpus)], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    main()
