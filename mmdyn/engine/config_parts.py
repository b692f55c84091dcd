"""Parts of a config, whose type may be a name, a name with its scope, or, as in MMEngine's newer configs, a class."""
from collections.abc import Mapping
from typing import Any

from mmengine.registry import DATASETS


def type_name(part: Mapping[str, Any]) -> str:
    """Without the scope: ``'ComputeMetric'`` for ``dict(type='mmdyn.ComputeMetric')``."""
    kind = part.get('type')
    return getattr(kind, '__name__', str(kind)).rpartition('.')[2]


def listed(parts: Any) -> list[Any]:
    """One part, several or None, as a list."""
    if parts is None:
        return []
    return list(parts) if isinstance(parts, (list, tuple)) else [parts]


def with_part(parts: Any, part: dict[str, Any]) -> list[Any]:
    """The parts, with this one behind them unless one of its type is among them."""
    parts = listed(parts)
    return parts if type_name(part) in map(type_name, parts) else [*parts, part]


def class_names(dataset: Mapping[str, Any]) -> list[str]:
    """Of a data set's config, or else of its class; none if neither names any."""
    named = (dataset.get('metainfo') or {}).get('classes') or dataset.get('classes')
    if named is None and 'type' in dataset:
        kind = dataset['type']
        named = getattr(DATASETS.get(kind) if isinstance(kind, str) else kind, 'METAINFO', {}).get('classes')
    return [named] if isinstance(named, str) else list(named or ())
