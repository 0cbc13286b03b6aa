# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""
Compare published rules that reject cosmic rays in a few exposures on the same pixels.

    python benchmarks/field.py --scenes fibres-eq stars --rules crrej matched --seeds 1
    python benchmarks/field.py --data FOLDER --numina PYTHON --table docs/field.ecsv
    python benchmarks/field.py --tune

Each rule runs at its own documented defaults and at one tuned setting: of those that
``--tune`` tries on other seeds, the one of the best mean efficiency. Rules are in
``field_rules.py`` with their references, scenes in ``field_scenes.py``, scores in
``field_scores.py``. The table is written after each scene; what it has already is not
done again. Real exposures are used where ``--data`` has them; numina runs in its own
Python; deepCR, Cosmic-CoNN and lacosmic run where they are installed.
"""

import argparse
import os
import platform
import subprocess
import sys
import warnings
from contextlib import contextmanager
from functools import partial
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from itertools import product
from pathlib import Path

import numpy as np
from accuracy import _label
from astropy import log
from astropy.table import Table, vstack
from field_rules import RULES, Rule, numina
from field_scenes import SCENES
from field_scores import SCORES, count, score

PACKAGES = ("ccdcr", "numpy", "scipy", "astropy", "ccdproc", "astroscrappy", "lacosmic")
PACKAGES += ("photutils", "deepCR", "cosmic-conn")
TUNED_ON = ("fibres-eq", "stars-eq", "longslit-eq", "fibres-all", "stars-all")
TUNED_ON += ("longslit-all",)
TUNED_SEED = 9000


def chosen(names, starts):
    """Return the names that begin with one of ``starts``, all without any."""
    return [n for n in names if not starts or any(n.startswith(s) for s in starts)]


def known_rules(options):
    """Return the rules that can run here, by name."""
    rules = {
        name: rule
        for name, rule in RULES.items()
        if rule.needs is None or find_spec(rule.needs)
    }
    for python in options.numina:
        rules[_label(f"numina:{python}")] = Rule(
            partial(numina, python=python), least=3
        )
    return {name: rules[name] for name in chosen(rules, options.rules)}


def judge(rule, settings, scenes):
    """Return the scores of a rule with one setting on scenes that are alike."""
    sums, seconds = {}, []
    for scene in scenes:
        start = sum(os.times()[:4])  # of numina, too
        result = rule.function(scene.stack, scene.gain, scene.readnoise, **settings)
        seconds.append(sum(os.times()[:4]) - start)
        for key, value in count(scene, *result).items():
            sums[key] = sums.get(key, 0) + value
    return score(sums) | {"seconds": float(np.median(seconds))}


def make(name, n, options, seed):
    """Return the scenes of all seeds; none if they need data that are not there."""
    seeds = range(seed, seed + options.seeds)
    scenes = [SCENES[name](options.size, n, k, options.data) for k in seeds]
    return [] if scenes[0] is None else scenes


def run(options):
    """Yield a table of rows for each scene that is not done yet."""
    rules, done = known_rules(options), _done(options.table)
    for name in chosen(SCENES, options.scenes):
        for n in options.exposures:
            todo = [
                (label, setting)
                for label, rule in rules.items()
                for setting in rule.settings
                if n >= rule.least and (name, n, label, setting) not in done
            ]
            scenes = make(name, n, options, options.seed) if todo else []
            rows = [
                {"scene": name, "n": n, "rule": label, "setting": setting}
                | judge(rules[label], rules[label].settings[setting], scenes)
                for label, setting in todo
                if scenes
            ]
            if rows:
                yield Table(rows)


def tune(options):
    """Print the efficiency of all settings that are tried, and the best."""
    cells = [
        make(name, n, options, TUNED_SEED)
        for name, n in product(TUNED_ON, options.exposures)
    ]
    for label, rule in known_rules(options).items():
        results = []
        for settings in rule.grid:
            values = [judge(rule, settings, scenes)["efficiency"] for scenes in cells]
            results.append((float(np.mean(values)), settings))
            print(f"{label:16}{results[-1][0]:8.4f}  {settings}", flush=True)
        if results:
            print(f"{label:16}best: {max(results, key=lambda r: r[0])}", flush=True)


def _done(path):
    """Return scene, number, rule and setting of the rows that a table has."""
    if path is None or not path.exists():
        return set()
    names = ("scene", "n", "rule", "setting")
    table = Table.read(path, format="ascii.ecsv")
    return {tuple(row[name] for name in names) for row in table}


def write(rows, options):
    """Add rows to the table, with versions and what was asked for."""
    about = {"size": options.size, "seed": options.seed, "seeds": options.seeds}
    if options.table.exists():
        before = Table.read(options.table, format="ascii.ecsv")
        if {key: before.meta[key] for key in about} != about:
            msg = f"{options.table} is of other sizes or seeds: {before.meta}"
            raise SystemExit(msg)
        rows = vstack([before, rows], metadata_conflicts="silent")
    order = {name: i for i, name in enumerate([*SCENES, *RULES])}
    places = [
        (order[row["scene"]], row["n"], order.get(row["rule"], 99)) for row in rows
    ]
    rows = rows[sorted(range(len(rows)), key=places.__getitem__)]
    rows.meta = about | {"versions": _versions()}
    for name, text in SCORES.items():
        rows[name] = [float(f"{value:.4g}") for value in rows[name]]
        rows[name].description = text
    rows.write(options.table, format="ascii.ecsv", overwrite=True)


def _versions():
    found = {"python": platform.python_version()}
    for name in PACKAGES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            continue
    here = Path(__file__).parent
    git = ["git", "-C", here, "describe", "--always", "--dirty"]
    commit = subprocess.run(git, capture_output=True, text=True).stdout.strip()
    return found | ({"ccdcr": commit} if commit else {})


def show(rows):
    """Print rows of the table."""
    for row in rows:
        text = "".join(f"{row[name]:11.4g}" for name in SCORES)
        label = f"{row['rule']} ({row['setting']})"
        print(f"{row['scene']:17}{row['n']:2} {label:26}{text}", flush=True)


def main(args=None):
    """Run what is asked for, print and write it."""
    options = _parser().parse_args(args)
    with _quiet():
        if options.tune:
            tune(options)
            return 0
        print(" " * 46 + "".join(f"{name:>11}" for name in SCORES))
        for rows in run(options):
            show(rows)
            if options.table:
                write(rows, options)
    return 0


@contextmanager
def _quiet():
    """Show no messages, and leave the settings as they were."""
    level = log.level
    log.setLevel("ERROR")
    try:
        with warnings.catch_warnings(), np.errstate(all="ignore"):
            warnings.simplefilter("ignore")
            yield
    finally:
        log.setLevel(level)


def _parser():
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1])
    parser.add_argument("--scenes", nargs="+", help="names, or their beginnings")
    parser.add_argument("--rules", nargs="+", help="names, or their beginnings")
    parser.add_argument("--exposures", nargs="+", type=int, default=[2, 3, 5, 7])
    parser.add_argument("--size", type=int, default=300)
    parser.add_argument("--seed", type=int, default=700)
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--data", type=Path, help="folder of real exposures")
    parser.add_argument("--numina", action="append", default=[], metavar="PYTHON")
    parser.add_argument(
        "--table", type=Path, help="file of ECSV to write or go on with"
    )
    parser.add_argument("--tune", action="store_true", help="try settings, no table")
    return parser


if __name__ == "__main__":
    sys.exit(main())
