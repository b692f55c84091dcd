"""Checkpoints that a kill cannot break, and from which training goes on exactly."""
import os.path as osp
from typing import Any, Optional

from mmengine import dist
from mmengine.hooks import CheckpointHook
from mmengine.runner import EpochBasedTrainLoop

from ..registry import HOOKS
from .atomic_backend import remove_parts, write_atomically
from .random_state import get_random_state, sampler_of, seed_workers, separate_generator, set_random_state
from .resumed_batches import resume_batches

_STATE_KEY = 'mmdyn_random_states'


@HOOKS.register_module()
class AtomicCheckpointHook(CheckpointHook):
    """MMEngine's ``CheckpointHook``, with the same options, for local disks. Config::

        default_hooks = dict(checkpoint=dict(type='mmdyn.AtomicCheckpointHook'))

    *Atomic.* A checkpoint is written aside, synced and renamed; ``last_checkpoint`` follows in the same way; only then
    are older checkpoints removed. Killed at any moment, the training leaves ``last_checkpoint`` pointing at a whole one.
    If the disk is full, the training ends with an error and the previous checkpoint stays.

    *Exact.* MMEngine restores weights, optimiser, schedules, iteration and, in iteration-based loops, the position in
    the data. This hook adds the random states of every process and the sampler's seed, and keeps validation from
    changing them. Training that was interrupted then equals training that was not, bit for bit on one process:

    - in epoch-based loops, from checkpoints at the ends of epochs, with any number of loader workers (they are started
      anew every epoch, with seeds of that epoch);
    - in iteration-based loops, from any checkpoint without loader workers. With workers, the order of the data is exact,
      but what they draw for augmentation is not: their random states cannot be saved.
    - An epoch-based loop cannot go on inside an epoch: ``by_epoch=False`` warns there.
    - With ``accumulative_counts``, from checkpoints at multiples of it.

    On another number of processes than before, the random states are left as the seed makes them, with a warning.

    Raises:
        ValueError: If the checkpoints are to go to anything but a local disk.
    """

    def __init__(self, *args, **kwargs) -> None:
        for name in ('backend_args', 'file_client_args'):
            if kwargs.get(name) is not None:
                raise ValueError(f'AtomicCheckpointHook writes to local disks, got {name}={kwargs[name]!r}; '
                                 "use MMEngine's CheckpointHook for other storage")
        if '://' in str(kwargs.get('out_dir')):
            raise ValueError(f'AtomicCheckpointHook writes to local disks, got out_dir={kwargs["out_dir"]!r}')
        super().__init__(*args, **{**kwargs, 'backend_args': dict(backend='mmdyn.atomic')})
        self._resumed: Optional[dict[str, Any]] = None
        self._to_save: Optional[dict[str, Any]] = None
        self._before_val: Optional[dict[str, Any]] = None

    def after_load_checkpoint(self, runner, checkpoint: dict) -> None:
        if runner._resume:
            self._resumed = checkpoint.get(_STATE_KEY)

    def before_train(self, runner) -> None:
        """Restores the random states; last of all hooks, just before the first batch is loaded."""
        super().before_train(runner)
        if dist.is_main_process():
            remove_parts(self.out_dir)
        if not self.by_epoch and isinstance(runner.train_loop, EpochBasedTrainLoop):
            runner.logger.warning(
                'by_epoch=False in an epoch-based loop: resumed from a checkpoint inside an epoch, MMEngine goes through '
                "that epoch's data from its start. Save by epochs, or train with an IterBasedTrainLoop.")
        self.last_ckpt = runner.message_hub.get_info('last_ckpt', None)  # of a resumed training
        loader = runner.train_dataloader
        separate_generator(loader)
        if self._resumed is not None:
            self._restore(runner, loader, **self._resumed)
            self._resumed = None

    def _restore(self, runner, loader, *, ranks: list[dict], sampler_seed: Optional[int]) -> None:
        if sampler_seed is not None:
            sampler_of(loader).seed = sampler_seed
        state = ranks[dist.get_rank()] if len(ranks) == dist.get_world_size() else None
        resume_batches(runner.train_loop, state)
        if state is not None:
            set_random_state(state)
        else:
            runner.logger.warning(
                f'The checkpoint is from a training on {len(ranks)} processes, this one has {dist.get_world_size()}: it '
                'goes on with other random numbers, and is not the one that was interrupted to the last bit.')

    def before_train_epoch(self, runner) -> None:
        seed_workers(runner.train_dataloader, seed=runner.seed, step=runner.iter, world_size=dist.get_world_size())

    def before_val(self, runner) -> None:
        self._before_val = get_random_state()

    def after_val(self, runner) -> None:
        # A training that is resumed after this epoch does not validate it again.
        assert self._before_val is not None
        set_random_state(self._before_val)
        self._before_val = None

    def after_val_epoch(self, runner, metrics: dict[str, float]) -> None:
        super().after_val_epoch(runner, metrics)
        if self.save_best:
            self._remove_old()

    def before_save_checkpoint(self, runner, checkpoint: dict) -> None:
        checkpoint[_STATE_KEY] = self._to_save

    def _save_checkpoint_with_step(self, runner, step: int, meta: dict) -> None:
        """The parent's, in another order: write, point at it, remove."""
        self._to_save = dict(
            ranks=dist.all_gather_object(self._before_val or get_random_state()),
            sampler_seed=getattr(sampler_of(runner.train_dataloader), 'seed', None))
        self._keep(runner, step)
        previous, name = self.last_ckpt, self.filename_tmpl.format(step)
        self.last_ckpt = osp.join(self.out_dir, name)
        runner.message_hub.update_info('last_ckpt', self.last_ckpt)
        try:
            runner.save_checkpoint(
                self.out_dir,
                name,
                save_optimizer=self.save_optimizer,
                save_param_scheduler=self.save_param_scheduler,
                meta=meta,
                by_epoch=self.by_epoch,
                backend_args=self.backend_args,
                **self.args)
            if dist.is_main_process():
                write_atomically(self.last_ckpt.encode(), osp.join(runner.work_dir, 'last_checkpoint'))
        except OSError as error:
            intact = f'The previous one, {previous}, is intact. ' if previous else ''
            raise OSError(error.errno, f'the checkpoint {self.last_ckpt} could not be written: {error.strerror}. {intact}'
                          'Once it can be written, go on with --resume') from error
        self._remove_old()

    def _keep(self, runner, step: int) -> None:
        """Notes which checkpoints are kept: the new one knows, for when the training is resumed from it."""
        if self.max_keep_ckpts <= 0 or step in self.keep_ckpt_ids:
            return
        if len(self.keep_ckpt_ids) == self.max_keep_ckpts:
            self.file_backend.remove(osp.join(self.out_dir, self.filename_tmpl.format(self.keep_ckpt_ids[0])))
        self.keep_ckpt_ids.append(step)
        runner.message_hub.update_info('keep_ckpt_ids', list(self.keep_ckpt_ids))

    def _remove_old(self) -> None:
        if dist.is_main_process():
            best = [getattr(self, 'best_ckpt_path', None), *getattr(self, 'best_ckpt_path_dict', {}).values()]
            self.file_backend.remove_now(keep={self.last_ckpt, *best})
