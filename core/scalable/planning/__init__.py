"""What will be asked for before a run; pure."""

from scalable.planning.plan import Plan, make_plan, working_pools

__all__ = ["Plan", "make_plan", "working_pools"]
