# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Read damaged files for some time: only documented errors may come.

    python benchmarks/fuzz.py masks --seconds 600
    python benchmarks/fuzz.py yaml --seconds 600

What is read must be the same when it is written and read again. The last line
counts the inputs; what went wrong is kept in the folder ``fuzz_failures``.
"""

import argparse
import random
import re
import signal
import sys
import tempfile
import time
import traceback
import warnings
from collections import Counter
from contextlib import suppress
from pathlib import Path

import numpy as np
from astropy import log
from astropy import units as u

from ccdcr import (
    CRMaskSet,
    CRMasksFileError,
    MissingUUIDWarning,
    ObservingBlock,
    Requirements,
    detect_cosmic_rays,
)
from ccdcr.pipeline.block_options import write_template
from ccdcr.simulation import simulate_exposures

_BLOCK = 2880
_SLOW = 20  # seconds of the processor after which an input counts as a failure
_CARD_VALUES = (
    "-1",
    "0",
    "1",
    "2",
    "3",
    "8",
    "99999999999",
    "1E400",
    "-1E-400",
    "NaN",
    "T",
    "'x'",
    "''",
    "'[[1, 2], [3'",
    "'[1, 1E999]'",
    "(1, 2)",
    "",
)
_TOKENS = r"""
.inf -.inf .nan 1e999 -0 0x10 0o7 1_000 10:20:30 2001-01-01 2001-13-45 ~ null none None
yes true !!str !!int !!float !!binary !!set !!omap !!timestamp !!python/name:os.system
!!python/object/apply:os.system &a *a << <<: ? : - [ ] { } | > ' " # % @ ` --- ...
[[1,1]] [1,2,3,4] {a:1} "\u0000" "\ud800" é 🙂 99999999999999999 lacosmic auto exact
""".split()  # noqa: SIM905


class TooSlowError(BaseException):
    """An input took far too long; nobody may catch it for another error."""


def _mask_seeds():
    """Yield files that hold all there may be, without and with checksums."""
    planes = np.random.default_rng(1).random((3, 5, 7)) < 0.3
    masks = CRMaskSet(
        planes.sum(axis=0) > 1,
        planes.any(axis=0),
        planes,
        meancr=planes.all(axis=0),
        lamedian=np.ones((5, 7), dtype=np.float32) * u.adu,
        flux_factor=[0.9, 1.0, 1.1],
        local_median_pixels=[[2, 3, 3, 5]],
        requirements=Requirements(mm_fixed_points_in_boundary=[[1, 2], [3, 4, 5]]),
        gain=1.7,
        readnoise=3.4,
        meta={"FILE1": "a.fits", "HISTORY": ["- gain = 1.7", "- bias = 3"]},
    )
    exposures = simulate_exposures((40, 44), seed=1).exposures
    known = {"gain": 1.0, "readnoise": 3.0, "la_verbose": False}
    made = [masks]
    made += [
        detect_cosmic_rays(exposures, **known, crmethod=method)
        for method in ("mmcosmic", "matched")
    ]
    with tempfile.TemporaryDirectory() as folder:
        for number, item in enumerate(made):
            for suffix in (".fits", ".fits.gz"):
                path = Path(folder) / f"{number}{suffix}"
                item.write(path)
                content = path.read_bytes()
                yield content
                if suffix == ".fits":
                    yield _without_sums(content)


def _without_sums(content):
    for keyword in (b"CHECKSUM", b"DATASUM "):
        content = content.replace(keyword + b"=", b"X" + keyword[1:] + b"=")
    return content


def _yaml_seeds():
    yield write_template().encode()
    yield (
        Requirements(
            flux_factor=[1.0, 2.0],
            pixels_to_be_flagged_as_cr=[[1, 2], [3, 4]],
            la_sigclip=(6.0, 3.0),
            mm_fixed_points_in_boundary=[[1, 2, 3]],
        )
        .to_yaml()
        .encode()
    )
    yield b"id: x\nframes: [a, b]\ngain: GAIN\nrnoise: 2\nrequirements: {dilation: 1}"
    yield b"images:\n- a\n- b\nrequirements:\n  method: meancr\n  crmasks: a.fits\n"


def _change_bytes(content, rng, _seeds):
    content = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(256)
    return bytes(content)


def _change_text(content, rng, _seeds):
    content = bytearray(content)
    for _ in range(rng.randint(1, 8)):
        content[rng.randrange(len(content))] = rng.randrange(32, 127)
    return bytes(content)


def _cut(content, rng, _seeds):
    return content[: rng.randrange(len(content))]


def _splice(content, rng, seeds):
    other = rng.choice(seeds)
    return content[: rng.randrange(len(content))] + other[rng.randrange(len(other)) :]


def _change_blocks(content, rng, _seeds):
    """Leave out, repeat or exchange blocks of a FITS file."""
    blocks = [content[i : i + _BLOCK] for i in range(0, len(content), _BLOCK)]
    i, j = rng.randrange(len(blocks)), rng.randrange(len(blocks))
    how = rng.randrange(3)
    if how == 0:
        del blocks[i]
    elif how == 1:
        blocks.insert(j, blocks[i])
    else:
        blocks[i], blocks[j] = blocks[j], blocks[i]
    return b"".join(blocks)


def _change_card(content, rng, _seeds):
    """Give one card of a FITS header another value or name."""
    places = [m.start() for m in re.finditer(rb"[A-Z0-9_-]{1,8} *= ", content)]
    if not places:
        return content
    place = rng.choice(places)
    if rng.random() < 0.2:
        other = rng.choice(places)
        return content[:place] + content[other : other + 8] + content[place + 8 :]
    text = rng.choice(_CARD_VALUES).encode().rjust(20)
    return content[: place + 10] + text + content[place + 10 + len(text) :]


def _change_token(content, rng, _seeds):
    """Put something special into a YAML file, or in place of a word."""
    words = [m.span() for m in re.finditer(rb"[^\s,\[\]{}:]+", content)]
    if not words:
        return content
    start, end = rng.choice(words)
    end = start if rng.random() < 0.3 else end
    return content[:start] + rng.choice(_TOKENS).encode() + content[end:]


def _change_lines(content, rng, seeds):
    lines = content.split(b"\n")
    i, j = rng.randrange(len(lines)), rng.randrange(len(lines))
    how = rng.randrange(3)
    if how == 0:
        del lines[i]
    elif how == 1:
        lines.insert(j, rng.choice(rng.choice(seeds).split(b"\n")))
    else:
        lines[i] = b" " * rng.randrange(5) + lines[i].lstrip()
    return b"\n".join(lines)


def _try_masks(path):
    """Return what became of a file of masks."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", MissingUUIDWarning)
            masks = CRMaskSet.read(path)
    except CRMasksFileError:
        return "refused"
    text = f"{masks}{masks!r}{masks.summary()}"
    again = path.with_name("again.fits")
    masks.write(again, overwrite=True)
    if CRMaskSet.read(again) != masks or not text:
        msg = "the set is another one when it is written and read again"
        raise AssertionError(msg)
    return "read"


def _try_yaml(path):
    """Return what became of a YAML file."""
    for reader in (ObservingBlock.list_from_yaml, ObservingBlock.from_yaml):
        with suppress(TypeError, ValueError):
            reader(path)
    try:
        found = Requirements.from_yaml(path)
    except (TypeError, ValueError):
        return "refused"
    again = path.with_name("again.yaml")
    found.to_yaml(again, overwrite=True)
    if Requirements.from_yaml(again) != found:
        msg = "the requirements are others when they are written and read again"
        raise AssertionError(msg)
    return "read"


_ANY = [_change_bytes, _change_text, _cut, _splice]
TARGETS = {
    "masks": (
        _try_masks,
        _mask_seeds,
        [*_ANY, _change_blocks, _change_card, _change_card, _change_card],
    ),
    "yaml": (
        _try_yaml,
        _yaml_seeds,
        [*_ANY, _change_token, _change_token, _change_token, _change_lines],
    ),
}


class Trial:
    """Inputs that are tried, and what became of them."""

    def __init__(self, name, folder):
        self.function, seeds, self.changes = TARGETS[name]
        self.seeds = list(seeds())
        self.path = Path(folder) / f"any.{'fits' if name == 'masks' else 'yaml'}"
        self.counts, self.slowest, self.failures = Counter(), 0.0, {}
        signal.signal(signal.SIGPROF, _too_slow)

    def __call__(self, content):
        """Try one input."""
        self.path.write_bytes(content)
        start = time.process_time()
        signal.setitimer(signal.ITIMER_PROF, _SLOW)
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                outcome = self.function(self.path)
        except (Exception, TooSlowError) as err:  # noqa: BLE001 - what is sought
            outcome = "failed"
            self._note(err, content)
        signal.setitimer(signal.ITIMER_PROF, 0)
        self.counts[outcome] += 1
        self.slowest = max(self.slowest, time.process_time() - start)

    def _note(self, err, content):
        place = traceback.extract_tb(err.__traceback__)[-1]
        key = f"{type(err).__name__} {Path(place.filename).name}:{place.lineno}"
        if key in self.failures:
            return
        self.failures[key] = err
        folder = Path("fuzz_failures")
        folder.mkdir(exist_ok=True)
        name = re.sub(r"\W+", "_", key) + self.path.suffix
        folder.joinpath(name).write_bytes(content)
        traceback.print_exception(err)

    def report(self):
        """Print the counts."""
        counts = ", ".join(f"{n} {what}" for what, n in sorted(self.counts.items()))
        print(
            f"{self.path.stem}{self.path.suffix}: {self.counts.total()} inputs, "
            f"{counts}, slowest {self.slowest:.2f} s"
        )
        for key in self.failures:
            print(f"  {key}")


def _too_slow(*_):
    msg = f"more than {_SLOW} s"
    raise TooSlowError(msg)


def _random(trial, seconds, seed):
    """Change files at random; the seed makes it the same again."""
    rng = random.Random(seed)  # noqa: S311
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        content = rng.choice(trial.seeds)
        for _ in range(rng.choice((1, 1, 2, 3))):
            change = rng.choice(trial.changes)
            content = change(content or b"\0", rng, trial.seeds)
        trial(content)


def parse_options(description):
    """Return the options of the command line."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("target", choices=TARGETS)
    parser.add_argument("--seconds", type=int, default=60)
    parser.add_argument("--seed", type=int, default=1)
    return parser.parse_args()


def main():
    """Try inputs and count what became of them."""
    options = parse_options(__doc__.split("\n")[1])
    log.setLevel("ERROR")
    with tempfile.TemporaryDirectory() as folder:
        trial = Trial(options.target, folder)
        _random(trial, options.seconds, options.seed)
        trial.report()
    return 1 if trial.failures else 0


if __name__ == "__main__":
    sys.exit(main())
