"""What a worker costs: the user's rates first, then dated tables that name their source; what a run has cost."""

from scalable.pricing.meter import Meter
from scalable.pricing.rate import NOT_PAID, NoPrice, Rate, user_rate
from scalable.pricing.tables import ec2_rate, fargate_rate, gce_rate

__all__ = ["NOT_PAID", "Meter", "NoPrice", "Rate", "ec2_rate", "fargate_rate", "gce_rate", "user_rate"]
