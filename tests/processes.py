"""Processes that do not import everything anew: each is forked from a server that has done so once.

To import torch, MMDetection and mmdyn takes seconds, which is most of what a tool takes on a few small pictures.
"""
import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

PRELOADED = ['mmdet.apis', 'mmdyn.analysis.trained_model', 'mmdyn.converters.pretrained_backbone', 'mmdyn.engine',
             'mmdyn.hooks', 'mmdyn.metrics']
multiprocessing.set_forkserver_preload(PRELOADED)


def start(function: Callable[..., Any], *args: Any, timeout: float = 600) -> int:
    """Calls a function in a process of its own; returns the exit code, negative for a signal."""
    process = multiprocessing.get_context('forkserver').Process(target=_with_one_thread, args=(function, args))
    process.start()
    process.join(timeout)
    assert process.exitcode is not None, f'{function.__name__} has not ended in {timeout} s'
    return process.exitcode


def start_ranks(function: Callable[..., Any], *args: Any, ranks: int = 2) -> None:
    """Calls function(rank, *args) in several processes; raises what one of them raises."""
    torch.multiprocessing.start_processes(_rank, (function, args), nprocs=ranks, start_method='forkserver')


def run_script(script: Path, *arguments: str, folder: Path) -> subprocess.CompletedProcess:
    """Runs a Python script as `python script arguments` does, without a GPU; output and exit code come back.

    Args:
        script: Of the tools.
        arguments: Of the command line.
        folder: Where it is started.
    """
    with tempfile.TemporaryDirectory() as outputs:
        code = start(_script, str(script), arguments, str(folder), outputs)
        texts = (Path(outputs, name).read_text() for name in ('1', '2'))
        return subprocess.CompletedProcess([str(script), *arguments], code, *texts)


def _with_one_thread(function: Callable[..., Any], args: tuple) -> None:
    torch.set_num_threads(1)
    function(*args)


def _rank(rank: int, function: Callable[..., Any], args: tuple) -> None:
    _with_one_thread(function, (rank, *args))


def _script(script: str, arguments: tuple[str, ...], folder: str, outputs: str) -> None:
    for descriptor, stream in ((1, sys.stdout), (2, sys.stderr)):
        with open(Path(outputs, str(descriptor)), 'wb') as file:
            os.dup2(file.fileno(), descriptor)
        stream.flush()
    os.chdir(folder)
    os.environ['CUDA_VISIBLE_DEVICES'] = ''
    sys.argv = [script, *arguments]
    try:
        runpy.run_path(script, run_name='__main__')
    finally:
        sys.stdout.flush()
