# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""The report on equivalence alone, without masks."""

from ccdcr.detection.matched.matched import Options, match_exposures
from ccdcr.detection.matched.report import report_of
from ccdcr.detection.scaling import scale_factors, scaled_frames
from ccdcr.equivalence import warn_of
from ccdcr.exposures import load_exposures

__all__ = ["check_equivalence"]


def check_equivalence(
    ccds,
    *,
    gain=None,
    readnoise=None,
    bias=None,
    flux_factor=None,
    extension=None,
    unit=None,
):
    """
    Report how far exposures are from being equivalent.

    Parameters
    ----------
    ccds : iterable of `~astropy.nddata.CCDData`, str or `~pathlib.Path`
        Two or more exposures or their files, of one shape (ny, nx). Pixels that
        are masked (True = bad) or not finite take no part.
    gain, readnoise, bias : float, `~astropy.units.Quantity` or str, optional
        As for `~ccdcr.detect_cosmic_rays`.
    flux_factor : sequence of float, optional
        Relative flux of each exposure. Default is their exposure times
        (``EXPTIME``) where all headers have them.
    extension, unit : optional
        As for `~ccdcr.detect_cosmic_rays`.

    Returns
    -------
    equivalence : `~ccdcr.Equivalence`
        The report; ``print`` shows it, `~ccdcr.plotting.plot_equivalence` draws it.

    Raises
    ------
    TypeError, ValueError
        If a parameter is not allowed, or if the exposures are not alike.

    Warns
    -----
    MatchingFailedWarning
        If the exposures differ by more than matching can mend.

    Examples
    --------
    >>> from ccdcr import check_equivalence
    >>> from ccdcr.simulation import simulate_exposures
    >>> sim = simulate_exposures(
    ...     (128, 128), scene="stars", flux=(0.9, 1.0, 1.1), cr_rate=0.1, seed=1
    ... )
    >>> report = check_equivalence(sim.exposures, gain=1.0, readnoise=3.0)
    >>> report
    <Equivalence(3 exposures, matching needed)>
    >>> [f"{flux:.1f}" for flux in report.terms["flux"]]
    ['0.9', '1.0', '1.1']
    """
    exposures = load_exposures(
        ccds,
        gain=gain,
        readnoise=readnoise,
        bias=bias,
        minimum=2,
        extension=extension,
        unit=unit,
    )
    factors = scale_factors(exposures, flux_factor)
    frames = scaled_frames(exposures, factors)
    report = report_of(match_exposures(frames, Options(passes=1)))
    if report.failures:
        warn_of(report)
    return report
