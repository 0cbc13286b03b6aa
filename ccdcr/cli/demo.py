# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The command ``ccdcr demo``."""

import time

__all__ = ["add_parser"]


def add_parser(commands, common):
    """Add the command to the parser."""
    parser = commands.add_parser(
        "demo",
        parents=[common],
        help="simulate three exposures, remove their cosmic rays, compare",
        description="Simulate three exposures with cosmic rays, detect and remove "
        "them, and compare the combinations with the truth.",
    )
    parser.add_argument(
        "-o",
        "--output-folder",
        default="ccdcr_demo",
        metavar="FOLDER",
        help="where files are written (default: %(default)s)",
    )
    parser.add_argument(
        "--scene",
        default="fibres",
        choices=("fibres", "longslit", "stars"),
        help="what is simulated (default: %(default)s)",
    )
    parser.add_argument(
        "--seed", type=int, default=1, help="seed of the simulation (default: 1)"
    )
    parser.add_argument(
        "--no-figure", action="store_true", help="do not make the figure"
    )
    parser.add_argument(
        "--overwrite", action="store_true", help="replace existing files"
    )
    parser.set_defaults(run=_run)


def _run(options, console):
    # Importing plots and detection takes a second: not for --help.
    from ccdcr.demo import run_demo

    start = time.perf_counter()
    masks, evaluation, paths = run_demo(
        options.output_folder,
        scene=options.scene,
        seed=options.seed,
        figure=not options.no_figure,
        overwrite=options.overwrite,
        progress_bar=console.progress,
    )
    console.say("\n".join(masks.summary().pformat(max_lines=-1)))
    console.say(f"\n{evaluation}\n")
    seconds = time.perf_counter() - start
    console.say(f"{len(paths)} files in {paths[0].parent}, {seconds:.1f} s")
    for path in paths:
        console.say(f"  {path.name}")
    return 0
