"""Evaluating trained models."""

from dpax.infer.comparison import Comparison as Comparison
from dpax.infer.comparison import compare_frames as compare_frames
from dpax.infer.comparison import comparisons as comparisons
from dpax.infer.comparison import frame_groups as frame_groups
from dpax.infer.deviation import Deviation as Deviation
from dpax.infer.deviation import evaluate_with_all as evaluate_with_all
from dpax.infer.deviation import model_deviation as model_deviation
from dpax.infer.evaluation import Evaluation as Evaluation
from dpax.infer.potential import Potential as Potential
from dpax.infer.subdomain import SubdomainPotential as SubdomainPotential
