"""What the options of tools/train.py and tools/test.py change in a config."""
import os

from mmengine.config import Config
from mmengine.device import get_device

from .config_parts import listed, type_name
from .errors import InputError
from .resume import find_last_checkpoint

# How each library's visualization hook is told to draw: its options for switching on and for the folder.
DRAWING_OPTIONS = {
    'DetVisualizationHook': ('draw', 'test_out_dir'),
    'VisualizationHook': ('enable', 'out_dir'),
}


def set_resume(cfg: Config, resume: str | None) -> None:
    """Sets what to go on from: a checkpoint's path, 'auto', or nothing."""
    if resume == 'auto':
        # mmengine would forget `load_from`, which a run that has nothing to go on from starts with.
        resume = find_last_checkpoint(cfg.work_dir)
    if resume is not None:
        cfg.resume = True
        cfg.load_from = resume


def set_mixed_precision(cfg: Config) -> None:
    """Sets float16 with scaled gradients on GPUs, bfloat16 on CPUs."""
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise InputError(f'--amp replaces an OptimWrapper, the config has optim_wrapper.type = {kind}')
    if get_device() == 'cpu':
        if 'rpn_head' in cfg.get('model', {}):
            raise InputError('--amp: a region proposal network suppresses boxes while it trains, which mmcv does on CPUs in '
                             'float32 alone: expected a GPU, or a model without rpn_head; or leave --amp out')
        for option in ('loss_scale', 'dtype'):
            cfg.optim_wrapper.pop(option, None)
        cfg.optim_wrapper.type = 'mmdyn.AutocastOptimWrapper'
        return
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_scaled_lr(cfg: Config) -> None:
    """Has the learning rate follow the global batch size."""
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise InputError('--auto-scale-lr expects auto_scale_lr.base_batch_size in the config, the batch size that its '
                         'learning rate was chosen for, found none')
    cfg.auto_scale_lr.enable = True


def set_out(cfg: Config, path: str) -> None:
    """Adds the writing of predictions to what is evaluated."""
    if not path.endswith(('.pkl', '.pickle')):
        raise InputError(f'--out expects a file that ends in .pkl or .pickle, got {path}')
    # mmdet's own dump keeps masks run-length encoded, which is a hundredth of the size.
    kind = 'DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
    cfg.test_evaluator = [*listed(cfg.test_evaluator), dict(type=kind, out_file_path=path)]


def set_show_dir(cfg: Config, folder: str) -> None:
    """Has every prediction drawn into a folder."""
    hook = cfg.get('default_hooks', {}).get('visualization') or {}
    kind = type_name(hook)
    if kind not in DRAWING_OPTIONS:
        raise InputError(f'--show-dir expects default_hooks.visualization to be one of {", ".join(DRAWING_OPTIONS)}, '
                         f'the config has {hook.get("type", "none")}')
    switch, destination = DRAWING_OPTIONS[kind]
    # mmdet's hook puts the work dir before a relative folder, once more with every batch.
    hook.update({switch: True, destination: os.path.abspath(folder), 'interval': 1})
