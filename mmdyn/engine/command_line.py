"""Arguments that training and testing have in common, and the config that they make."""
import argparse
import os
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .errors import InputError, blame

LAUNCHERS = ('none', 'pytorch', 'slurm', 'mpi')


def common_parser(description: str) -> argparse.ArgumentParser:
    """A parser with the arguments of mmdet's own tools that training and testing share."""
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument('config', help='config file')
    parser.add_argument('--work-dir', help="folder for logs and results (default: work_dirs/<the config's name>)")
    parser.add_argument(
        '--cfg-options',
        nargs='+',
        action=DictAction,
        metavar='KEY=VALUE',
        help="values to override, such as train_dataloader.batch_size=4 or 'model.backbone.out_indices=(0,1,2,3)'")
    parser.add_argument('--launcher', choices=LAUNCHERS, default='none', help='what started the processes, if several')
    # Old launchers give the rank as an argument, torchrun in the environment.
    parser.add_argument('--local_rank', '--local-rank', type=int, default=0, help=argparse.SUPPRESS)
    return parser


def check_file(path: str, what: str) -> None:
    """Raises InputError unless there is a file with content."""
    if '://' in path:
        return  # not on a disk: mmengine finds and fetches it
    if not os.path.isfile(path):
        raise InputError(f'expected {what}, found {"a folder" if os.path.isdir(path) else "nothing"} at {path}')
    if os.path.getsize(path) == 0:
        raise InputError(f'expected {what}, found an empty file at {path}')


def check_output_folder(path: str) -> None:
    """Raises InputError unless files can be written to the folder, which is made if need be."""
    try:
        os.makedirs(path, exist_ok=True)
        with tempfile.TemporaryFile(dir=path) as file:
            file.write(bytes(4096))
    except OSError as error:
        raise InputError(f'expected a folder that can be written to, but {path} cannot: {error.strerror}') from None


def read_config_file(path: str, options: Mapping[str, Any] | None = None) -> Config:
    """A config file, with values overridden.

    Args:
        path: Of the file.
        options: Dotted key -> value, of ``--cfg-options``.

    Raises:
        InputError: The file is absent or not a config, it has no model, or an option does not fit it.
    """
    check_file(path, 'a config file')
    with blame(f'{path} cannot be read as a config'):
        cfg = Config.fromfile(path)
    if not isinstance(cfg.get('model'), Mapping):
        raise InputError(f'expected a config with a model, found none in {path}')
    with blame('--cfg-options do not fit the config'):
        cfg.merge_from_dict(dict(options or {}))
    return cfg


def load_config(args: argparse.Namespace) -> Config:
    """The config that the arguments of `common_parser` describe."""
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = read_config_file(args.config, args.cfg_options)
    cfg.launcher = args.launcher
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    return cfg


def build_runner(cfg: Config) -> Runner:
    """The Runner of a config.

    Raises:
        InputError: Something in it cannot be built.
    """
    with blame('the config cannot be built'):
        return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)
