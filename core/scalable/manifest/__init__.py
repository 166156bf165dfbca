"""Text to a typed manifest that knows the line of every value; overlays; variables."""

from scalable.manifest.codes import CODES
from scalable.manifest.load import load
from scalable.manifest.model import Component, Objectives, Project, Task
from scalable.manifest.tree import Catalogue, Manifest, Target

__all__ = ["CODES", "Catalogue", "Component", "Manifest", "Objectives", "Project", "Target", "Task", "load"]
