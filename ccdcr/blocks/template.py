# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""A YAML file with all that a block may say, to be edited."""

import textwrap

from ccdcr._requirements_table import REQUIREMENTS, STAGES
from ccdcr.blocks.options import PLAIN
from ccdcr.combination.methods import METHODS
from ccdcr.exposures.ccd_parameters import GAIN_KEYWORDS, READNOISE_KEYWORDS
from ccdcr.requirements import yaml_value

__all__ = ["write_template"]

_FRAMES = ("exposure1.fits", "exposure2.fits", "exposure3.fits")
_TOP = """\
# Observing blocks of ccdcr, separated by ---. Run them: ccdcr run THIS_FILE
# Pixels and regions are in FITS style: the first pixel is [1, 1], x comes first,
# limits are inclusive. none: not given.
"""
_DETECTION = """\
id: {id}  # results are written to the folder obsid<id>_results
mode: MegaraCrDetection  # that is a detection of cosmic rays
frames:  # in data/ beside this file, or beside it; wildcards are allowed
{frames}
extnum: none  # number or name of the FITS extension; none = the only image
gain: none  # electron/adu, or a header keyword; none = {gain}
readnoise: none  # electron, or a header keyword; none = {readnoise}
# rnoise: 2.0  # in place of readnoise: in adu
bias: none  # adu, or a header keyword; level that the frames still contain
requirements:
{requirements}
"""
_COMBINATION = """\
id: {id}
mode: Combination  # any but that of a detection
frames:
{frames}
extnum: none
requirements:
  method: meancr  # {methods}
  method_kwargs:
    apply_flux_factor: false  # divide frames by the flux factors of the masks
    use_lamedian: false  # take LAMEDIAN instead of the minimum
  crmasks: crmasks.fits  # of the detection above, of data/, or any path
"""


def write_template(frames=(), *, block_id="night1", only=None):
    """
    Return the text of a YAML file with a detection and a combination.

    Parameters
    ----------
    frames : sequence of str, optional
        Names of the exposures. Default is names to be replaced.
    block_id : str, optional
        What the names of the blocks begin with.
    only : {'detection', 'combination'} or None, optional
        Which of the two blocks is written. Default is both.

    Returns
    -------
    text : str
        The text, with all requirements, their defaults and meaning.
    """
    listed = "\n".join(f"  - {yaml_value(name)}" for name in frames or _FRAMES)
    detection = _DETECTION.format(
        id=yaml_value(f"{block_id}_crmasks"),
        frames=listed,
        gain=" or ".join(GAIN_KEYWORDS),
        readnoise=", ".join(READNOISE_KEYWORDS),
        requirements="\n".join(_requirement_lines()),
    )
    combination = _COMBINATION.format(
        id=yaml_value(block_id), frames=listed, methods=" | ".join([*METHODS, *PLAIN])
    )
    blocks = {"detection": detection, "combination": combination}
    chosen = blocks.values() if only is None else [blocks[only]]
    return _TOP + "---\n".join(chosen)


def _requirement_lines():
    stage = None
    for row in REQUIREMENTS.values():
        if row.stage != stage:
            stage = row.stage
            always = STAGES[stage] == STAGES["general"]
            used = "" if always else f", used by crmethod {', '.join(STAGES[stage])}"
            yield from _wrapped(f"--- {stage}{used}")
        unit = f" [{row.unit}]" if row.unit else ""
        text = f"{row.meaning}{unit}: {row.kind.allowed}"
        yield from _wrapped(text)
        yield f"  {row.name}: {yaml_value(row.default)}"


def _wrapped(text):
    return textwrap.wrap(text, 88, initial_indent="  # ", subsequent_indent="  #   ")
