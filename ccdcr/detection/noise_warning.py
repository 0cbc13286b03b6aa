# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""What is wrong when the noise is not what gain and read noise explain."""

import numpy as np

from ccdcr.exceptions import NoiseModelWarning, warn_user

__all__ = ["likeliest_cause", "warn_of_noise"]

_TOLERATED = 0.2
_SMOOTH, _MANY_ELECTRONS = 0.5, 50.0
_REMEDIES = {
    "readnoise": "check readnoise",
    "gain": "check gain",
    "equivalence": "the exposures seem not to be equivalent: register them, or use "
    "flux_factor='auto'",
}


def likeliest_cause(levels, gain, readnoise, *, equivalent=False):
    """
    Return which single error explains the noise best.

    Parameters
    ----------
    levels : `~astropy.table.Table`
        By signal ``x``: observed ``noise`` in units of the model's.
    gain : float
        Electrons per unit of ``x``.
    readnoise : float
        Read noise in electron.
    equivalent : bool, optional
        Whether the exposures are known to be equivalent. Default is False.

    Returns
    -------
    cause : {'readnoise', 'gain', 'equivalence'} or None
        None if the noise is off by less than 20 %.
    """
    noise = np.asarray(levels["noise"], dtype=float)
    signal = np.maximum(np.asarray(levels["x"], dtype=float) * gain, 0)
    variance = signal + readnoise**2
    off = np.abs(noise - 1) > _TOLERATED
    # Single electrons are seen: quantiles fall on them.
    off &= (readnoise >= _SMOOTH) | (signal > _MANY_ELECTRONS)
    if not off.any():
        return None
    causes = {"readnoise": readnoise**2 / variance, "gain": signal / variance}
    if not equivalent:
        causes["equivalence"] = signal**2 / variance
    excess, left = noise**2 - 1, {}
    for cause, shape in causes.items():
        size = (shape @ excess) / max(shape @ shape, 1e-300)
        if cause == "equivalence":
            size = max(size, 0)
        left[cause] = np.sum((excess - size * shape) ** 2)
    return min(left, key=left.get)


def warn_of_noise(levels, cause):
    """Warn of the level that is off most, unless there is no cause."""
    if cause is None:
        return
    ratio = np.asarray(levels["noise"])
    worst = np.argmax(np.abs(np.log(np.maximum(ratio, 1e-3))))
    msg = (
        f"the noise of the exposures is {ratio[worst]:.2f} times what gain and "
        f"readnoise explain at a signal of {levels['x'][worst]:.4g}; "
        f"{_REMEDIES[cause]}"
    )
    warn_user(msg, NoiseModelWarning)
