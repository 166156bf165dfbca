"""What will be asked for before a run; pure."""

from scalable.planning.advice import Advice, Bounds, TaskAdvice, take_advice
from scalable.planning.plan import Plan, make_plan, working_pools

__all__ = ["Advice", "Bounds", "Plan", "TaskAdvice", "make_plan", "take_advice", "working_pools"]
