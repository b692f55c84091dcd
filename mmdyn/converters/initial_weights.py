"""Is a backbone really going to start from the weights that its config names?

mmengine loads what fits, logs the rest and trains on. A checkpoint of another depth, or with other gates, would leave a
backbone half pretrained and half random.
"""
from collections.abc import Mapping

from mmengine.runner import CheckpointLoader
from torch import Tensor, nn

from ..checkpoints import CheckpointError, KeyMatch, state_dict_of
from ..engine.checkpoint_files import PREFIX

DECIDER_PARTS = {'gate', 'router'}


def match_backbone(backbone: nn.Module, given: Mapping[str, Tensor], source: str) -> KeyMatch:
    """How pretrained weights fill a backbone.

    A static checkpoint lacks all gates and routers, which start as they are built; everything else must be there.

    Args:
        backbone: As its config describes it.
        given: Its weights, without prefix; others, such as a classifier, may be among them.
        source: Where they are from, for the message.

    Raises:
        CheckpointError: Naming the weights that are missing or of another shape, and the gates and routers that are not
            in this backbone.
    """
    wanted = backbone.state_dict()
    match = KeyMatch.of(wanted, given)
    decides = [key for key in wanted if is_dynamic(key)]
    starts_static = set(decides) <= set(match.missing)
    missing = tuple(key for key in match.missing
                    if not key.endswith('num_batches_tracked') and not (starts_static and is_dynamic(key)))
    superfluous = tuple(key for key in match.left_over if is_dynamic(key))
    problem = KeyMatch(match.matched, missing, superfluous, match.mis_shaped)
    if not problem.is_complete:
        raise CheckpointError(f'{source} is not of the backbone that the config describes (another depth, other target '
                              f'rates, another family?): {problem.summary()}\n{problem.details()}')
    return match


def is_dynamic(key: str) -> bool:
    """Whether a static backbone has no such weight."""
    return bool(DECIDER_PARTS & set(key.split('.'))) or key.endswith('threshold_logit')


def check_initial_backbone(model: nn.Module) -> None:
    """Checks the backbone of a model against the local checkpoint that it is going to start from, if there is one.

    Raises:
        CheckpointError: If it would be filled in part.
    """
    backbone = getattr(model, 'backbone', None)
    init_cfg = getattr(backbone, 'init_cfg', None)
    path = init_cfg.get('checkpoint') if isinstance(init_cfg, Mapping) else None
    if not isinstance(path, str) or not path.startswith(PREFIX):
        return
    weights = state_dict_of(CheckpointLoader.load_checkpoint(path, map_location='cpu', logger='silent'), path)
    prefix = (init_cfg.get('prefix') or '').rstrip('.')
    prefix = f'{prefix}.' if prefix else ''
    given = {key.removeprefix(prefix): value for key, value in weights.items() if key.startswith(prefix)}
    match_backbone(backbone, given, path.removeprefix(PREFIX))
