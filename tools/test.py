"""Evaluates a checkpoint of an mmdet or mmpretrain config on its test set, on GPUs or CPUs."""
import argparse
import os

from mmdyn.launch import (InputError, build_runner, check_datasets, check_output_folder, check_same_config, common_parser,
                          exit_on_bad_input, guard_load_from, join_process_group, leave_process_group, load_config,
                          require_fit)
from mmengine.config import Config

# How each library's visualization hook is told to draw: its options for switching on and for the folder.
DRAWING_OPTIONS = {
    'DetVisualizationHook': ('draw', 'test_out_dir'),
    'VisualizationHook': ('enable', 'out_dir'),
}


def parse_args() -> argparse.Namespace:
    parser = common_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--out', metavar='FILE.pkl', help='file to write the predictions to')
    parser.add_argument('--show-dir', help='folder to write pictures of the predictions to')
    return parser.parse_args()


def set_out(cfg: Config, path: str) -> None:
    """Adds the writing of predictions to what is evaluated."""
    if not path.endswith(('.pkl', '.pickle')):
        raise InputError(f'--out expects a file that ends in .pkl or .pickle, got {path}')
    # mmdet's own dump keeps masks run-length encoded, which is a hundredth of the size.
    kind = 'DumpDetResults' if cfg.get('default_scope') == 'mmdet' else 'DumpResults'
    evaluators = cfg.test_evaluator if isinstance(cfg.test_evaluator, (list, tuple)) else [cfg.test_evaluator]
    cfg.test_evaluator = [*evaluators, dict(type=kind, out_file_path=path)]


def set_show_dir(cfg: Config, folder: str) -> None:
    """Has every prediction drawn into a folder."""
    hook = cfg.get('default_hooks', {}).get('visualization') or {}
    kind = str(hook.get('type')).rpartition('.')[2]
    if kind not in DRAWING_OPTIONS:
        raise InputError(f'--show-dir expects default_hooks.visualization to be one of {", ".join(DRAWING_OPTIONS)}, '
                         f'the config has {hook.get("type", "none")}')
    switch, destination = DRAWING_OPTIONS[kind]
    # mmdet's hook puts the work dir before a relative folder, once more with every batch.
    hook.update({switch: True, destination: os.path.abspath(folder), 'interval': 1})


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        cfg = load_config(args)
        cfg.load_from = args.checkpoint
        if args.out:
            set_out(cfg, args.out)
        if args.show_dir:
            set_show_dir(cfg, args.show_dir)
        guard_load_from(cfg)
        check_datasets(cfg, ('test', ))
        check_output_folder(cfg.work_dir)
        join_process_group(cfg)
        check_same_config(cfg)
    runner = build_runner(cfg)
    with exit_on_bad_input():
        require_fit(runner.model, cfg.load_from)
    runner.test()
    leave_process_group()


if __name__ == '__main__':
    main()
