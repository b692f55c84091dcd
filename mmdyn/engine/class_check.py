"""Has a model as many classes as the data that it is to be trained on?"""
from collections.abc import Iterator, Mapping
from typing import Any

from torch import nn

from .errors import InputError


def check_classes(model: nn.Module, metainfo: Mapping[str, Any]) -> None:
    """Compares the heads of one of MMDetection's detectors or MMPretrain's classifiers with a data set.

    With too few classes the loss of the first image of another class fails, with too many those who evaluate a
    detector find no name for what it predicts. A classifier may have more classes than there are folders.

    Args:
        model: Not wrapped for several processes.
        metainfo: Of the data set; with ``classes`` or, where others are not detected, ``thing_classes``.

    Raises:
        InputError: Names the key of the config to change.
    """
    classes = metainfo.get('thing_classes') or metainfo.get('classes')
    if not isinstance(classes, (list, tuple)) or hasattr(model, 'language_model'):  # of an open vocabulary
        return
    for key, head in _heads(model):
        wrong = head.num_classes < len(classes) if key == 'head' else head.num_classes != len(classes)
        if wrong:
            raise InputError(f'model.{key}.num_classes is {head.num_classes}, but the training data have {len(classes)} '
                             f'classes ({", ".join(map(str, classes[:5]))}{", ..." if len(classes) > 5 else ""}): set '
                             f'model.{key}.num_classes={len(classes)}, or train_dataloader.dataset.metainfo.classes')


def _heads(model: nn.Module) -> Iterator[tuple[str, nn.Module]]:
    """The heads that tell classes apart, by their keys in a config."""
    modules = dict(model.named_modules())
    names = [name for name in modules if name in ('head', 'bbox_head', 'roi_head.bbox_head')
             or name.startswith('roi_head.bbox_head.') and name.count('.') == 2]
    for name in names:
        head = modules[name]
        # A region proposal network tells objects from none, whatever the data hold.
        if isinstance(getattr(head, 'num_classes', None), int) and not type(head).__name__.endswith('RPNHead'):
            yield name, head
