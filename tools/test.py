"""Evaluates a checkpoint of an mmdet or mmpretrain config on its test set, on GPUs or CPUs."""
import argparse

from mmdyn.engine import (build_runner, check_config, check_datasets, check_output_folder, check_same_config,
                          common_parser, exit_on_bad_input, guard_load_from, join_process_group, leave_process_group,
                          load_config, require_fit)
from mmdyn.engine.config_options import set_out, set_show_dir


def parse_args() -> argparse.Namespace:
    parser = common_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='FILE.pkl', help='file to write the predictions to')
    parser.add_argument('--show-dir', help='folder to write pictures of the predictions to')
    return parser.parse_args()


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        cfg = load_config(args)
        cfg.load_from = args.checkpoint
        if args.out:
            set_out(cfg, args.out)
        if args.show_dir:
            set_show_dir(cfg, args.show_dir)
        check_config(cfg)
        guard_load_from(cfg)
        check_output_folder(cfg.work_dir)
        join_process_group(cfg)
        check_same_config(cfg)
        check_datasets(cfg, ('test', ))
        runner = build_runner(cfg)
        require_fit(runner.model, cfg.load_from)
        runner.test()
    leave_process_group()


if __name__ == '__main__':
    main()
