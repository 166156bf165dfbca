"""One view of a manifest: the base with an overlay or without, its variables expanded, validated."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, TypeVar

from pydantic import BaseModel, ValidationError

from scalable.errors import Issue, ScalableError, did_you_mean
from scalable.manifest.model import Document, Objectives, TargetHead
from scalable.manifest.nodes import Entry, Listing, Node, Scalar, Table, walk
from scalable.manifest.parts import check_parts
from scalable.manifest.references import check_references
from scalable.manifest.translate import Location, Translator, known_keys
from scalable.manifest.tree import Catalogue, Target
from scalable.manifest.variables import expand

__all__ = ["Scope", "View", "validate_view"]

_Model = TypeVar("_Model", bound=BaseModel)


@dataclass(frozen=True, slots=True)
class Scope:
    """What a manifest is read for.

    Attributes
    ----------
    target, overlay : str or None
        The target that is chosen, and the overlay in force.
    parts : tuple of str
        The targets that it is made of.
    overlays : tuple of str
        Names of all overlays.
    """

    file: str
    target: str | None
    overlay: str | None
    overlays: tuple[str, ...]
    environ: Mapping[str, str]
    catalogue: Catalogue
    parts: tuple[str, ...] = ()

    @property
    def needed(self) -> tuple[str, ...]:
        """The target that is chosen, and those that it is made of."""
        return () if self.target is None else (self.target, *self.parts)


@dataclass(slots=True)
class View:
    """What validation made of one view; ``document`` is nothing if it is not valid."""

    root: Table
    document: Document | None = None
    targets: dict[str, Target] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)


def validate_view(table: Table, scope: Scope, *, effective: bool) -> View:
    """Validate one view.

    Parameters
    ----------
    table : Table
        The tree, overlay included.
    scope : Scope
        What it is read for.
    effective : bool
        Whether this is the view that will run, so that its variables must be set.
    """
    root, malformed = expand(table, scope.environ)
    view = View(root)
    for one in malformed:
        message = f"'{one.text}' holds `${{` without a variable's name"
        hint = "write ${NAME} or ${NAME:-default}, and $${ for the signs themselves"
        view.issues.append(Issue("E_BAD_VARIABLE", one.entry.path, message, hint, scope.file, *one.entry.node.mark))
    view.issues += _unset_variables(root, scope, effective=effective)
    unchecked: set[Location] = set()
    data = _Plain(unchecked).table(root, ())
    at = Translator(root, scope.file, unchecked)
    _validate_document(view, data, at)
    _validate_targets(view, data, at, scope)
    view.issues += check_references(data, at)
    return view


def _validate_document(view: View, data: dict[str, Any], at: Translator) -> None:
    try:
        view.document = Document.model_validate(data)
    except ValidationError as error:
        view.issues += at.issues(error, Document)
    if data.get("targets") == {} and ("targets",) not in at.unchecked:
        view.issues.append(
            at.issue("E_MISSING_KEY", ("targets",), "there is no target", "add `local: {provider: local}`")
        )


def _validate_targets(view: View, data: dict[str, Any], at: Translator, scope: Scope) -> None:
    targets = data.get("targets")
    if not isinstance(targets, dict):
        return
    for name, body in targets.items():
        if body is None or isinstance(body, dict):
            made = _Target(name, body or {}, at, scope)
            target = made.validate()
            view.issues += made.issues
            if target is not None:
                view.targets[name] = target
    view.issues += check_parts(view.targets, at)


class _Target:
    """One target on its way to being valid."""

    def __init__(self, name: str, body: dict[str, Any], at: Translator, scope: Scope) -> None:
        self.name = name
        self.where: Location = ("targets", name)
        self.issues: list[Issue] = []
        keys = set(known_keys(TargetHead))
        self._head = {key: value for key, value in body.items() if key in keys}
        self._options = {key: value for key, value in body.items() if key not in keys and value is not None}
        self._at = at
        self._scope = scope

    def validate(self) -> Target | None:
        """Return the target; nothing if it is not valid."""
        head = self._apply(TargetHead, self._head)
        provider = self._head.get("provider")
        model = self._options_model(provider) if isinstance(provider, str) else None
        options = None if model is None else self._apply(model, self._options)
        objectives = head.objectives if head is not None else Objectives()
        overlay = head.overlay if head is not None else None
        made = Target(self.name, str(provider), options, objectives, overlay)
        return made if head is None else replace(made, advise=head.advise, price=head.price)

    def _apply(self, model: type[_Model], data: dict[str, Any]) -> _Model | None:
        try:
            return model.model_validate(data)
        except ValidationError as error:
            self.issues += self._at.issues(error, model, self.where)
            return None

    def _options_model(self, provider: str) -> type[BaseModel] | None:
        catalogue = self._scope.catalogue
        where = (*self.where, "provider")
        try:
            return catalogue.options_model(provider)
        except LookupError:
            known = catalogue.names()
            hint = did_you_mean(provider, known) or f"known: {', '.join(known)}"
            self.issues.append(self._at.issue("E_UNKNOWN_PROVIDER", where, f"there is no provider '{provider}'", hint))
        except ScalableError as error:
            # Somebody who runs another target need not install this provider.
            if self.name in self._scope.needed:
                self.issues.append(self._at.issue("E_PROVIDER_UNAVAILABLE", where, str(error)))
        return None


def _unset_variables(root: Table, scope: Scope, *, effective: bool) -> list[Issue]:
    issues = []
    for dotted, entry in walk(root):
        if not isinstance(entry.node, Scalar) or not entry.node.unset:
            continue
        code = _unset_code(dotted, entry, scope, effective=effective)
        if code is not None:
            name = entry.node.unset[0]
            message = f"the environment variable {name} is not set"
            hint = f"set it, or write ${{{name}:-default}}"
            issues.append(Issue(code, entry.path, message, hint, scope.file, *entry.node.mark))
    return issues


def _unset_code(dotted: str, entry: Entry, scope: Scope, *, effective: bool) -> str | None:
    of_target = dotted.startswith("targets.")
    of_chosen = dotted.startswith(tuple(f"targets.{name}." for name in scope.needed))
    if effective and (of_chosen or not of_target):
        return "E_UNSET_VARIABLE"
    optional = of_target or entry.path.startswith("overlays.")
    return "W_UNSET_VARIABLE" if scope.target is None and optional else None


class _Unknown:
    """Stands for a value that hangs on a variable without a value."""


_UNKNOWN = _Unknown()


class _Plain:
    """Turn nodes into plain data, leaving out what is not known."""

    def __init__(self, unchecked: set[Location]) -> None:
        self._unchecked = unchecked

    def table(self, table: Table, location: Location) -> dict[str, Any]:
        """Return a mapping without the keys whose value is not known."""
        made = {}
        for key, entry in table.entries.items():
            below = (*location, key)
            value = self._node(entry.node, below)
            if value is _UNKNOWN:
                self._unchecked.add(below)
            else:
                made[key] = value
        return made

    def _node(self, node: Node, location: Location) -> Any:
        match node:
            case Table():
                return self.table(node, location)
            case Listing():
                items = [self._node(entry.node, (*location, index)) for index, entry in enumerate(node.entries)]
                # A list with a gap is another list.
                return _UNKNOWN if any(item is _UNKNOWN for item in items) else items
            case Scalar():
                return self._scalar(node, location)

    def _scalar(self, scalar: Scalar, location: Location) -> Any:
        if scalar.unset:
            return _UNKNOWN
        value = scalar.value
        if len(location) == 4 and location[0] == "components" and location[2] == "env" and value is not None:
            # An environment variable is text: 1.10 must not become 1.1.
            return scalar.text
        return value
