"""Trains the model of an mmdet or mmpretrain config, on GPUs or CPUs."""
import argparse

from mmdyn.converters.initial_weights import check_initial_backbone
from mmdyn.engine import (build_runner, check_config, check_datasets, check_output_folder, check_same_config,
                          common_parser, exit_on_bad_input, guard_initial_weights, guard_load_from, join_process_group,
                          leave_process_group, load_config, run_training)
from mmdyn.engine.config_options import set_mixed_precision, set_resume, set_scaled_lr


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


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        cfg = load_config(args)
        set_resume(cfg, args.resume)
        if args.amp:
            set_mixed_precision(cfg)
        if args.auto_scale_lr:
            set_scaled_lr(cfg)
        check_config(cfg)
        guard_load_from(cfg)
        guard_initial_weights(cfg)
        check_output_folder(cfg.work_dir)
        join_process_group(cfg)
        check_same_config(cfg)
        check_datasets(cfg, ('train', 'val'))
        runner = build_runner(cfg)
        check_initial_backbone(runner.model)
        run_training(runner)
    leave_process_group()


if __name__ == '__main__':
    main()
