"""Runs a training; one that ends before its time says what happened, which checkpoint is the last and how to go on."""
import os
import traceback

import torch
from mmengine.runner import Runner

from .class_check import check_classes
from .errors import InputError, blame, is_raised_here, message_of
from .rank_check import check_shares
from .unwrapped import unwrapped

# What stops a training although the code is right: numbers that are none, a full disk or an unreadable file, memory.
OUTER_REASONS = (FloatingPointError, OSError, torch.cuda.OutOfMemoryError)


def run_training(runner: Runner) -> None:
    """`runner.train()`, on data that have been compared with the processes and the model.

    Raises:
        InputError, KeyboardInterrupt: With one line for the user.
    """
    with blame('the training data cannot be loaded'):
        loader = runner.train_loop.dataloader
    check_shares(loader)
    model = unwrapped(runner.model)
    check_classes(model, getattr(loader.dataset, 'metainfo', {}))
    try:
        runner.train()
    except KeyboardInterrupt:
        if os.environ.get('RANK', '0') == '0':
            raise KeyboardInterrupt(f'stopped by Ctrl-C in {_position(runner)}. {how_to_go_on(runner)}') from None
        raise
    except Exception as error:
        if isinstance(error, OUTER_REASONS) or is_raised_here(error):
            going_on = f'. {how_to_go_on(runner)}' if runner.iter else ''
            raise InputError(message_of(error).rstrip('.') + going_on) from error
        if _has_begun(error):
            raise
        with blame('the training cannot start'):
            raise


def how_to_go_on(runner: Runner) -> str:
    """A sentence that names the last checkpoint of this training."""
    last = runner.message_hub.get_info('last_ckpt', None)
    if last is None:
        return 'There is no checkpoint yet.'
    return f'The last checkpoint is {last}; with --resume, the same command goes on from there.'


def _has_begun(error: Exception) -> bool:
    """Whether it was raised inside the training loop, and not while optimiser, schedules and hooks were set up."""
    return any(frame.name == 'run' for frame in traceback.extract_tb(error.__traceback__))


def _position(runner: Runner) -> str:
    loop = runner.train_loop
    epochs = f', epoch {loop.epoch + 1} of {loop.max_epochs}' if loop.max_epochs > 1 else ''
    return f'iteration {loop.iter + 1} of {loop.max_iters}{epochs}'
