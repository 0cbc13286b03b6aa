# Licensed under a 3-clause BSD style license - see LICENSE.rst
"""Simulated exposures with known cosmic rays, and the evaluation of masks."""

from ccdcr.simulation.evaluation import Evaluation, Simulation, evaluate
from ccdcr.simulation.simulate import simulate_exposures

__all__ = ["Evaluation", "Simulation", "evaluate", "simulate_exposures"]
