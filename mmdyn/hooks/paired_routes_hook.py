"""Trains every image on two routes: all blocks open, and as the gates decide."""
import copy
from typing import Any, Optional, Sequence, Union

from mmengine.dataset import InfiniteSampler
from mmengine.hooks import Hook
from mmengine.optim import OptimWrapper
from torch import Tensor, nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader

from ..engine.unwrapped import unwrapped
from ..layers.gate import check_number
from ..registry import HOOKS
from .linear_schedule import LinearSchedule
from .paired_routes import Distance, PairedRoutes


@HOOKS.register_module()
class PairedRoutesHook(Hook):
    """Keeps the network with all gates open as good as the static one, and makes it the teacher of the routes.

    In form ``'twice'`` each image takes two routes in each iteration, all blocks open and as the gates decide. The loss
    is the weighted mean of both routes' losses, plus the distance of what the routed images give to what the open ones
    do (adaptive depth networks, NeurIPS 2024; in-place distillation, ICCV 2019). An iteration costs two. In form
    ``'half'`` the first half of each batch runs open and the second as decided, at the cost of plain training; nothing
    can be compared then.

    With ``updates=2`` the weights are updated after each pass: first from the losses of the open one, as in plain
    training, then from those of the routed one with the distance to what the open one gave, before its update (the distance
    also holds the little that this update moves). That costs no more than one update from both.

    The model's heads and losses are what they are: the model is called once for each route.

    Where norms train, their running statistics see both routes.

    Args:
        form: ``'twice'`` or ``'half'``.
        routed_weight: Weight of the routed losses in (0, 1); the open ones have the rest. With ``updates=2`` in
            (0, 1], and the open ones have 1. Form ``'twice'``.
        updates: Of the weights in an iteration, 1 or 2. Form ``'twice'``. With 2, gradients cannot be accumulated over
            several iterations.
        distances: Dicts ``module`` (name in the model), ``kind`` (``'maps'``, ``'logits'`` or ``'scores'``, see
            :mod:`mmdyn.hooks.route_distance`) and ``weight`` (1 by default). By default the scores of a
            one-stage detector, the logits of a classifier; of other models the maps of the neck, or of the backbone
            where there is none. An empty list: none.
        distance_weight: Multiplies all distances: a number, or options of
            :class:`mmdyn.hooks.linear_schedule.LinearSchedule`, such as ``dict(start=1.0, stop=10.0, begin=0.4,
            end=0.8)``. What a large weight did from the first iteration, and what at the end only:
            configs/robocup_ssl/failed.md.
        begin: Share of the training, in [0, 1], until which all blocks run and no gate is asked.

    Raises:
        ValueError, TypeError: Naming the option, what was expected and what came.
    """

    priority = 'NORMAL'

    def __init__(self,
                 *,
                 form: str = 'twice',
                 routed_weight: float = 0.5,
                 updates: int = 1,
                 distances: Optional[Sequence[dict]] = None,
                 distance_weight: Union[float, dict] = 1.0,
                 begin: float = 0.0) -> None:
        if form not in ('twice', 'half'):
            raise ValueError(f"form must be 'twice' or 'half', got {form!r}")
        if form == 'half' and distances:
            raise ValueError("form='half' has no image on both routes: expected no distances, got "
                             f'{distances!r}')
        self.form = form
        if updates not in ((1, 2) if form == 'twice' else (1, )):
            raise ValueError(f"updates must be 1, or 2 with form='twice', got {updates!r} with {form=}")
        self.updates = updates
        self.routed_weight = check_number('routed_weight', routed_weight, 0.0, 1.0)
        if self.routed_weight == 0.0 or (self.routed_weight == 1.0 and updates == 1):
            raise ValueError(f'routed_weight must lie between 0 and 1, got {routed_weight!r}')
        self.distances = None if distances is None else _distances(distances)
        if form == 'half' and distance_weight != 1.0:
            raise ValueError("form='half' compares nothing: expected no distance_weight, got " f'{distance_weight!r}')
        if not isinstance(distance_weight, dict):
            check_number('distance_weight', distance_weight, 0.0)
            distance_weight = dict(start=distance_weight, stop=distance_weight)
        if not {'start', 'stop'} <= set(distance_weight) <= {'start', 'stop', 'begin', 'end'}:
            raise ValueError('distance_weight expects a number, or a dict of start and stop, and begin and end if wanted; '
                             f'got {distance_weight!r}')
        self.distance_weight = LinearSchedule(**distance_weight)
        self.begin = check_number('begin', begin, 0.0, 1.0)
        self.routes: Optional[PairedRoutes] = None
        self._open_loss: Optional[Tensor] = None

    def before_train(self, runner) -> None:
        model = unwrapped(runner.model)
        if sum(isinstance(hook, PairedRoutesHook) for hook in runner.hooks) > 1:
            raise ValueError('custom_hooks: expected one PairedRoutesHook, got several')
        if self.form == 'half':
            _require_halves(runner.train_dataloader)
        elif self.updates == 1:
            _require_one_backward(runner.model)
        accumulated = getattr(runner.optim_wrapper, '_accumulative_counts', 1)
        if self.updates == 2 and accumulated > 1:
            raise ValueError(f'PairedRoutesHook: updates=2 makes two updates in each iteration: expected '
                             f'optim_wrapper.accumulative_counts=1, got {accumulated}')
        self.routes = PairedRoutes(model, twice=self.form == 'twice', routed_weight=self.routed_weight,
                                   updates=self.updates, distances=self.distances)
        if isinstance(runner.optim_wrapper, OptimWrapper):
            self.routes.let_rest(runner.optim_wrapper.optimizer)

    def before_train_iter(self, runner, batch_idx: int, data_batch: Optional[Any] = None) -> None:
        active = runner.iter >= self.begin * runner.max_iters
        self.routes.distance_weight = self.distance_weight(runner.iter / runner.max_iters)
        if active and self.updates == 2:
            self._train_open(runner, data_batch)
        self.routes.active = active

    def _train_open(self, runner, data_batch: Any) -> None:
        """A whole step of the model with all blocks open, before the Runner makes that of the routed pass."""
        # A copy, for data preprocessors change boxes and masks in place.
        data_batch = copy.deepcopy(data_batch)
        with self.routes.open_step():
            losses = runner.model.train_step(data_batch, optim_wrapper=runner.optim_wrapper)
        self._open_loss = losses['loss']

    def after_train_iter(self, runner, batch_idx: int, data_batch: Any = None, outputs: Optional[dict] = None) -> None:
        if self._open_loss is not None:  # read only now, so that a GPU need not be waited for between the steps
            runner.message_hub.update_scalar('train/loss_open', self._open_loss)
            self._open_loss = None

    def after_train(self, runner) -> None:
        if self.routes is not None:
            self.routes.remove()
            self.routes = None


def _require_halves(loader: DataLoader) -> None:
    """A batch of one image has no half: said before the training, and not in the last batch of its first epoch.

    Raises:
        ValueError: If batches, or the last of an epoch, hold one image.
    """
    batches = loader.batch_sampler
    size, sampler = getattr(batches, 'batch_size', None), getattr(batches, 'sampler', None)
    if size is None or sampler is None:  # of a kind that is not known: the backbone will look at each batch
        return
    left = 0 if batches.drop_last or isinstance(sampler, InfiniteSampler) else len(sampler) % size
    if 1 in (size, left):
        raise ValueError("form='half' expects at least 2 images in each batch on each GPU, got "
                         + (f'train_dataloader.batch_size={size}' if size == 1 else
                            f'1 in the last batch ({len(sampler)} images by {size}): set train_dataloader.drop_last=True'))


def _require_one_backward(model: nn.Module) -> None:
    """Two passes of one forward run checkpointed blocks twice, whose parameters data-parallel training sees ready twice.

    Raises:
        ValueError: If this is such a model.
    """
    if isinstance(model, DistributedDataParallel) and not model.static_graph:
        if any(getattr(module, 'with_cp', False) for module in model.modules()):
            raise ValueError(
                'PairedRoutesHook: with_cp=True on several GPUs makes two backward passes through each block in one '
                "update: expected updates=2, or model_wrapper_cfg=dict(type='MMDistributedDataParallel', "
                'static_graph=True), or with_cp=False')


def _distances(distances: Sequence[dict]) -> list[Distance]:
    if not isinstance(distances, (list, tuple)) or not all(
            isinstance(options, dict) and {'module'} <= set(options) <= {'module', 'kind', 'weight'}
            for options in distances):
        raise TypeError("distances expects a list of dict(module=<name>), and kind and weight if wanted, got "
                        f'{distances!r}')
    return [Distance(**options) for options in distances]
