"""Registries of the scope ``mmdyn``.

MMEngine imports this module by itself when a config says ``type='mmdyn.X'``, and hides any
error that the import raises. So nothing is imported here but the registries; the modules that
need MMDetection are named as ``locations`` and are imported, with their errors shown, when a
class is first asked for.
"""
from mmengine.registry import HOOKS as MMENGINE_HOOKS
from mmengine.registry import METRICS as MMENGINE_METRICS
from mmengine.registry import MODELS as MMENGINE_MODELS
from mmengine.registry import OPTIM_WRAPPERS as MMENGINE_OPTIM_WRAPPERS
from mmengine.registry import Registry

MODELS = Registry(
    'model', parent=MMENGINE_MODELS, scope='mmdyn', locations=['mmdyn.backbones', 'mmdyn.losses'])
HOOKS = Registry('hook', parent=MMENGINE_HOOKS, scope='mmdyn', locations=['mmdyn.engine', 'mmdyn.hooks'])
METRICS = Registry('metric', parent=MMENGINE_METRICS, scope='mmdyn', locations=['mmdyn.metrics'])
OPTIM_WRAPPERS = Registry(
    'optim wrapper', parent=MMENGINE_OPTIM_WRAPPERS, scope='mmdyn', locations=['mmdyn.engine'])
