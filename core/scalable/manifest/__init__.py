"""Text to a typed manifest that knows the line of every value; overlays; variables."""

from scalable.manifest.codes import CODES
from scalable.manifest.load import load
from scalable.manifest.model import Component, Objectives, Price, Project, Task
from scalable.manifest.tree import Catalogue, Manifest, Target

__all__ = ["CODES", "Catalogue", "Component", "Manifest", "Objectives", "Price", "Project", "Target", "Task", "load"]
