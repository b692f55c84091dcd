"""What an application has to know of a graph, kept in the file itself: each entry is JSON."""
import json
from pathlib import Path
from typing import Any

from mmengine.config import Config

from .. import __version__
from ..engine import InputError, class_names, type_name


def write(proto: Any, entries: dict[str, Any]) -> None:
    """Puts the entries into an ONNX model."""
    for name, value in entries.items():
        proto.metadata_props.add(key=name, value=json.dumps(value))


def read(entries: dict[str, str], path: Path) -> dict[str, Any]:
    """What `write` has put into a file.

    Args:
        entries: onnxruntime's ``get_modelmeta().custom_metadata_map``.
        path: Of the file, for the message.

    Raises:
        InputError: If the file has another origin.
    """
    if 'mmdyn_version' not in entries:
        raise InputError('expected a file that tools/deployment/export_onnx.py has written, '
                         f'found no metadata in {path}')
    return {name: json.loads(value) for name, value in entries.items()}


def describe(cfg: Config) -> dict[str, Any]:
    """Where a model is from, and how images are prepared for it.

    Returns:
        ``mmdyn_version``; ``config``, its name; ``classes``; ``mean`` and ``std`` of the channels, in the values of
        8-bit pictures, which are in ``channel_order`` 'RGB' or 'BGR'; ``keep_ratio``: whether pictures are scaled in
        their own proportions and padded at the right and bottom, with zeros after normalisation, or stretched;
        ``scale``: the longer and the shorter side that they are scaled to, if that fits the graph; None if the config
        has none.
    """
    prepare = cfg.model.get('data_preprocessor') or {}
    swapped = any(prepare.get(option) for option in ('bgr_to_rgb', 'rgb_to_bgr', 'to_rgb'))
    resize = _resize_step(cfg)
    scale = resize.get('scale')
    return dict(
        mmdyn_version=__version__,
        config=Path(cfg.filename or '').stem,
        classes=evaluated_classes(cfg),
        mean=list(prepare.get('mean') or [0.0] * 3),
        std=list(prepare.get('std') or [1.0] * 3),
        channel_order='RGB' if swapped else 'BGR',  # pictures are loaded as OpenCV loads them
        keep_ratio=bool(resize.get('keep_ratio', False)),
        scale=sorted(scale, reverse=True) if isinstance(scale, (list, tuple)) else None)


def evaluated_classes(cfg: Config) -> list[str]:
    """Of the data set that the config is evaluated on; none if it has none."""
    return class_names((cfg.get('test_dataloader') or {}).get('dataset') or {})


def _resize_step(cfg: Config) -> dict[str, Any]:
    """The step of the test pipeline that scales pictures; that of MMDetection's usual pipeline if there is none."""
    pipeline = ((cfg.get('test_dataloader') or {}).get('dataset') or {}).get('pipeline') or []
    return next((step for step in pipeline if type_name(step).endswith('Resize')), dict(keep_ratio=True))
