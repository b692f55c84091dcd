"""Trains the model of an mmdet or mmpretrain config, on GPUs or CPUs."""
import argparse

from mmdyn.launch import (InputError, build_runner, check_datasets, check_initial_backbone, check_output_folder,
                          check_same_config, check_shares, common_parser, exit_on_bad_input, find_last_checkpoint,
                          guard_initial_weights, guard_load_from, join_process_group, leave_process_group, load_config)
from mmengine.config import Config
from mmengine.device import get_device


def parse_args() -> argparse.Namespace:
    parser = common_parser(__doc__)
    parser.add_argument(
        '--resume',
        nargs='?',
        const='auto',
        metavar='CHECKPOINT',
        help='go on from a checkpoint, or from the last one in the work dir if none is named')
    parser.add_argument('--amp', action='store_true', help='train in mixed precision (bfloat16 on CPUs)')
    parser.add_argument(
        '--auto-scale-lr',
        action='store_true',
        help='scale the learning rate from the batch size it was chosen for to the one used')
    return parser.parse_args()


def set_resume(cfg: Config, resume: str | None) -> None:
    """Sets what to go on from: a checkpoint's path, 'auto', or nothing."""
    if resume == 'auto':
        # mmengine would forget `load_from`, which a run that has nothing to go on from starts with.
        resume = find_last_checkpoint(cfg.work_dir)
    if resume is not None:
        cfg.resume = True
        cfg.load_from = resume


def set_mixed_precision(cfg: Config) -> None:
    kind = cfg.optim_wrapper.get('type', 'OptimWrapper')
    if kind not in ('OptimWrapper', 'AmpOptimWrapper'):
        raise InputError(f'--amp replaces an OptimWrapper, the config has optim_wrapper.type = {kind}')
    if get_device() == 'cpu':
        for option in ('loss_scale', 'dtype'):
            cfg.optim_wrapper.pop(option, None)
        cfg.optim_wrapper.type = 'mmdyn.AutocastOptimWrapper'
        return
    cfg.optim_wrapper.type = 'AmpOptimWrapper'
    cfg.optim_wrapper.setdefault('loss_scale', 'dynamic')


def set_scaled_lr(cfg: Config) -> None:
    if 'base_batch_size' not in cfg.get('auto_scale_lr', {}):
        raise InputError('--auto-scale-lr expects auto_scale_lr.base_batch_size in the config, the batch size that its '
                         'learning rate was chosen for, found none')
    cfg.auto_scale_lr.enable = True


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        cfg = load_config(args)
        set_resume(cfg, args.resume)
        if args.amp:
            set_mixed_precision(cfg)
        if args.auto_scale_lr:
            set_scaled_lr(cfg)
        guard_load_from(cfg)
        guard_initial_weights(cfg)
        check_datasets(cfg, ('train', 'val'))
        check_output_folder(cfg.work_dir)
        join_process_group(cfg)
        check_same_config(cfg)
    runner = build_runner(cfg)
    with exit_on_bad_input():
        check_initial_backbone(runner.model)
        check_shares(runner.train_loop.dataloader)
    runner.train()
    leave_process_group()


if __name__ == '__main__':
    main()
