# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Combine a few long exposures and remove the cosmic rays the median leaves."""

from importlib import import_module

from ccdcr._version import __version__

# Modules are imported on first use, so that the help of the command is quick.
_MODULES = {
    "BlockResult": "pipeline",
    "CRCombiner": "combination.combiner",
    "CRMaskSet": "masks.mask_set",
    "CRMasksFileError": "exceptions",
    "CRWarning": "exceptions",
    "CoincidenceWarning": "exceptions",
    "Equivalence": "matching.equivalence",
    "FluxScaleWarning": "exceptions",
    "ForeignMasksWarning": "exceptions",
    "ImplausibleMaskWarning": "exceptions",
    "LocalMedianWarning": "exceptions",
    "MatchingFailedWarning": "exceptions",
    "MethodComparison": "inspection",
    "MissingUUIDWarning": "exceptions",
    "MissingUnitWarning": "exceptions",
    "NoUncertaintyWarning": "exceptions",
    "NoWindowWarning": "exceptions",
    "NoiseModelWarning": "exceptions",
    "NotEquivalentWarning": "exceptions",
    "ObservingBlock": "pipeline.observing_block",
    "Requirements": "requirements.requirements",
    "ReviewCancelledError": "exceptions",
    "UnknownRequirementError": "exceptions",
    "UnusedRequirementWarning": "exceptions",
    "add_expected": "detection.detect_cosmic_rays",
    "ccd_map": "exposures.ccd_values",
    "align_exposures": "exposures.align_exposures",
    "check_equivalence": "detection.detect_cosmic_rays",
    "combine": "combination.combine",
    "compare_methods": "inspection",
    "detect_cosmic_rays": "detection.detect_cosmic_rays",
    "explain_pixel": "inspection",
    "remove_cosmic_rays": "pipeline.remove_cosmic_rays",
    "review": "reviewing",
    "run_blocks": "pipeline",
    "write_report": "report",
}

__all__ = [*_MODULES, "__version__"]  # noqa: PLE0604


def __getattr__(name):
    if name not in _MODULES:
        msg = f"module {__name__!r} has no attribute {name!r}"
        raise AttributeError(msg)
    value = getattr(import_module(f"{__name__}.{_MODULES[name]}"), name)
    globals()[name] = value
    return value


def __dir__():
    return sorted({*globals(), *__all__})
