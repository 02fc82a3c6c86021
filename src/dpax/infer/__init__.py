"""Evaluating trained models."""

from dpax.infer.potential import Evaluation as Evaluation
from dpax.infer.potential import Potential as Potential
