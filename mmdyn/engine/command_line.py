"""Arguments that training and testing have in common, and the config that they make."""
import argparse
import os
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from mmdyn.checkpoints import CheckpointError
from mmengine.config import Config, DictAction
from mmengine.registry import RUNNERS
from mmengine.runner import Runner

from .errors import InputError

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


def load_config(args: argparse.Namespace) -> Config:
    """The config that the arguments of `common_parser` describe."""
    check_file(args.config, 'a config file')
    os.environ.setdefault('LOCAL_RANK', str(args.local_rank))
    cfg = Config.fromfile(args.config)
    cfg.launcher = args.launcher
    if args.cfg_options is not None:
        cfg.merge_from_dict(args.cfg_options)
    if args.work_dir is not None:
        cfg.work_dir = args.work_dir
    elif cfg.get('work_dir') is None:
        cfg.work_dir = os.path.join('work_dirs', Path(args.config).stem)
    return cfg


def build_runner(cfg: Config) -> Runner:
    return RUNNERS.build(cfg) if 'runner_type' in cfg else Runner.from_cfg(cfg)


@contextmanager
def exit_on_bad_input() -> Iterator[None]:
    """Ends the program with the message alone, without a traceback, where what came in is wrong and not the code."""
    try:
        yield
    except (InputError, CheckpointError) as error:
        raise SystemExit(f'{Path(sys.argv[0]).name}: {error}') from None
