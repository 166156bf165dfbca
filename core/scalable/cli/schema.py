"""``scalable schema``: the JSON Schema of manifests."""

from __future__ import annotations

import json

__all__ = ["schema"]


def schema() -> int:
    """Print the JSON Schema of manifests, for editors, with every provider that is installed."""
    from scalable.manifest.schema import json_schema  # noqa: PLC0415  (help must not wait for it)
    from scalable.providers import registry  # noqa: PLC0415

    print(json.dumps(json_schema(registry.catalogue, registry.loadable_names()), indent=1, ensure_ascii=False))  # noqa: T201
    return 0
