# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Kill processes that write a file of masks, at random moments.

    python benchmarks/kill_writes.py --kills 200

The file must be whole after each of them.
"""

import argparse
import random
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from ccdcr import CRMaskSet

_WRITER = """
import sys
import numpy as np
from ccdcr import CRMaskSet
sets = []
for value in (0, 1):
    planes = np.full((3, 60, 70), value, dtype=np.uint8)
    sets.append(CRMaskSet(planes[0], planes[0], planes))
print("ready", flush=True)
while True:
    for masks in sets:
        masks.write(sys.argv[1], overwrite=True)
"""


def main():
    """Count what was lost."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[1])
    parser.add_argument("--kills", type=int, default=200)
    number = parser.parse_args().kills
    lost = during = 0
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "crmasks.fits"
        for _ in range(number):
            command = [sys.executable, "-c", _WRITER, path]
            with subprocess.Popen(command, stdout=subprocess.PIPE) as writer:
                writer.stdout.readline()
                time.sleep(random.uniform(0.02, 0.15))  # noqa: S311
                writer.send_signal(signal.SIGKILL)
            left = [item for item in path.parent.iterdir() if item != path]
            during += bool(left)
            for item in left:
                item.unlink()
            found = CRMaskSet.read(path).crmasks if path.exists() else None
            lost += found is None or not (found.all() or not found.any())
    print(f"{number} kills, {during} of them during a write, {lost} files lost")


if __name__ == "__main__":
    main()
