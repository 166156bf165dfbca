"""The policy that works from predicted work, start-up time and price; pure."""

from scalable.scaling.predictive.policy import PredictivePolicy

__all__ = ["PredictivePolicy"]
