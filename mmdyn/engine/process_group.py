"""Several processes, with GPUs or without."""
import os
from datetime import timedelta
from typing import Any

import torch.distributed
from mmengine.config import Config
from mmengine.device import get_device
from mmengine.dist import init_dist

from .errors import InputError

TORCHRUN_VARIABLES = ('RANK', 'LOCAL_RANK', 'WORLD_SIZE', 'MASTER_ADDR', 'MASTER_PORT')


def join_process_group(cfg: Config) -> None:
    """Starts the process group that `--launcher` asks for, before mmengine's Runner would; it leaves one alone that is up.

    So the ranks can be compared before anything is built. And the Runner works with `--launcher pytorch` on CPUs: its own
    start selects a GPU, and its model wrapper names one, so the config is given another wrapper there.

    Raises:
        InputError: The processes were not started by torchrun, or the launcher needs a GPU.
    """
    if cfg.launcher == 'pytorch':
        missing = [name for name in TORCHRUN_VARIABLES if name not in os.environ]
        if missing:
            raise InputError('--launcher pytorch expects to be started by torchrun, which sets '
                             f'{", ".join(TORCHRUN_VARIABLES)}; not set: {", ".join(missing)}')
    if cfg.launcher == 'none':
        return
    if get_device() != 'cpu':
        init_dist(cfg.launcher, **cfg.get('env_cfg', {}).get('dist_cfg', {}))
        return
    if cfg.launcher != 'pytorch':
        raise InputError(f'--launcher {cfg.launcher} needs GPUs and found none: '
                         'on CPUs start the processes with torchrun and give --launcher pytorch')
    timeout = cfg.get('env_cfg', {}).get('dist_cfg', {}).get('timeout')
    options: dict[str, Any] = dict(timeout=timedelta(seconds=timeout)) if timeout else {}  # PyTorch 2.1 refuses None
    torch.distributed.init_process_group('gloo', **options)
    wrapper = cfg.get('model_wrapper_cfg') or dict(
        # The Runner's own choices.
        type='MMDistributedDataParallel',
        broadcast_buffers=False,
        find_unused_parameters=cfg.get('find_unused_parameters', False))
    cfg.model_wrapper_cfg = dict(wrapper, device_ids=None)


def leave_process_group() -> None:
    """Ends what `join_process_group` has started, once the work is done.

    Gloo's threads free the tensors of the last collective when they get to it. If Python is shutting down by then, they
    abort the process and the job counts as failed (2 processes on CPUs: 4 of 31 short trainings). A barrier holds no
    tensors, and gives them the time.

    PyTorch 2.1 may also hang there: the group waits for gloo's threads and holds the lock of Python that they need to
    free a tensor. Let go of through a reference of its own, gloo's part waits without it.
    """
    if not torch.distributed.is_initialized():
        return
    torch.distributed.barrier()
    on_cpus = torch.distributed.get_backend() == 'gloo'
    gloo = torch.distributed.group.WORLD._get_backend(torch.device('cpu')) if on_cpus else None
    torch.distributed.destroy_process_group()
    del gloo
