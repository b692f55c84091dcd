"""A dynamic backbone and its static parent with the same weights, alone or inside the same detector."""
import copy
import inspect
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from mmengine.config import Config
from mmengine.model import BaseModule
from mmengine.registry import MODELS
from torch import Tensor, nn

from ..backbones.dynamic_backbone import DynamicBackbone
from ..cost import CostAccount
from ..engine import InputError, check_config, check_file, read_config_file

WIRINGS = ('complete', 'chain')


def read_config_or_backbone(text: str, options: Mapping[str, Any] | None = None) -> Config:
    """A config file, or a backbone given as ``dict(type=..., ...)``, which becomes ``model.backbone``.

    Args:
        text: Path or backbone.
        options: Dotted key -> value to override, of ``--cfg-options``.
    """
    if text.lstrip().startswith(('dict(', '{')):
        try:
            cfg = Config.fromstring(f'model = dict(backbone={text})', '.py')
        except Exception as error:  # whatever is wrong with what was typed
            raise InputError(f'expected a backbone such as "dict(type=\'mmdyn.AIGResNet\', depth=50)", got {text} '
                             f'({type(error).__name__}: {error})') from None
        if options:
            raise InputError(f'--cfg-options expects a config file, got the backbone {text}')
    else:
        check_file(text, 'a config file or dict(type=...)')
        cfg = read_config_file(text, options)
    if 'backbone' not in cfg.get('model', {}):
        raise InputError(f'expected a config with model.backbone, found none in {text}')
    check_config(cfg)
    return cfg


def dynamic_class(config: dict) -> type[DynamicBackbone]:
    cls = MODELS.get(config.get('type', ''))
    if not (inspect.isclass(cls) and issubclass(cls, DynamicBackbone)):
        raise InputError("expected a dynamic backbone, such as type='mmdyn.AIGResNet', "
                         f'got type={config.get("type")!r}')
    return cls


def static_config(config: dict) -> dict:
    """The config of the parent of a dynamic backbone: the same options, less those that decide."""
    cls = dynamic_class(config)
    parent = next(base for base in cls.__mro__
                  if issubclass(base, BaseModule) and not issubclass(base, DynamicBackbone))
    mixins = [base for base in cls.__mro__ if issubclass(base, DynamicBackbone) and '__init__' in vars(base)]
    own = {name for base in mixins for name, parameter in inspect.signature(base.__init__).parameters.items()
           if parameter.kind is parameter.KEYWORD_ONLY}
    return dict({key: value for key, value in config.items() if key not in own}, type=parent)


class BackbonePair:
    """A dynamic backbone and its static parent.

    Args:
        config: The dynamic backbone's.
        static: The static one's; by default that of the dynamic class's parent.
        device: Where to put them.
        amp: The dtype of mixed precision, such as ``'float16'``; None for single precision.
    """

    def __init__(self, config: dict, static: dict | None = None, device: str = 'cpu', amp: str | None = None) -> None:
        self._autocast = dict(device_type=torch.device(device).type, enabled=amp is not None,
                              dtype=getattr(torch, amp) if amp else None)
        dynamic_class(self._backbone_config(config))
        self._build(config, static)
        self.dynamic.to(device)
        self.static.to(device)
        missing = self.static.load_state_dict(self.dynamic.state_dict(), strict=False).missing_keys
        if missing:
            raise InputError('expected a static backbone with the weights of the dynamic one, it has others: '
                             f'{missing[:5]}')
        self.account = CostAccount(self.backbone)

    def _backbone_config(self, config: dict) -> dict:
        return config

    def _build(self, config: dict, static: dict | None) -> None:
        # Pretrained weights change neither time nor memory.
        self.dynamic = MODELS.build(dict(config, init_cfg=None))
        self.static = MODELS.build(dict(static or static_config(config), init_cfg=None))
        self.backbone: DynamicBackbone = self.dynamic

    @property
    def models(self) -> dict[str, nn.Module]:
        return dict(static=self.static, dynamic=self.dynamic)

    def static_macs(self, size: tuple[int, int]) -> int:
        """Of one image in the static backbone: everything but the gates and routers."""
        return sum(part.macs for part in self.account.parts(size) if part.kind not in ('gate', 'router'))

    def make_inputs(self, batch: int, size: tuple[int, int]) -> Any:
        device = next(self.dynamic.parameters()).device
        return torch.randn(batch, 3, *size, generator=torch.Generator().manual_seed(0)).to(device)

    def predict(self, model: nn.Module, inputs: Any) -> None:
        with torch.autocast(**self._autocast):
            model(inputs)

    def loss(self, model: nn.Module, inputs: Any) -> Tensor:
        with torch.autocast(**self._autocast):
            return sum(features.float().square().mean() for features in model(inputs))

    def train_step(self, model: nn.Module, inputs: Any) -> None:
        self.loss(model, inputs).backward()
        model.zero_grad()

    def skips_in_training(self) -> bool:
        """Whether closed blocks can be skipped while training: there are gates, and norms are frozen."""
        with self.training():
            try:
                self.backbone.train_execution = 'skip'
                self.backbone.train()
            except ValueError:
                return False
        return True

    @contextmanager
    def training(self) -> Iterator[None]:
        """Within it all models train, closed blocks masked unless the backbone is told otherwise."""
        backbone = self.backbone
        before = backbone.losses_attached, backbone.train_execution
        try:
            backbone.losses_attached, backbone.train_execution = True, 'mask'
            for model in self.models.values():
                model.train()
            yield
        finally:
            backbone.losses_attached, backbone.train_execution = before

    @contextmanager
    def evaluation(self) -> Iterator[None]:
        for model in self.models.values():
            model.eval()
        yield


class DetectorPair(BackbonePair):
    """The same for the detectors of a config around the two backbones.

    Attributes:
        draw: Makes a batch of so many images of a size, with annotations; None: random ones.
    """

    draw: Callable[[int, tuple[int, int]], Any] | None = None

    def _backbone_config(self, config: dict) -> dict:
        return config['backbone']

    def _build(self, config: dict, static: dict | None) -> None:
        backbone = dict(config['backbone'], init_cfg=None)
        config = dict(config, init_cfg=None)
        self.dynamic = MODELS.build(dict(config, backbone=backbone))
        self.static = MODELS.build(dict(config, backbone=dict(static or static_config(backbone), init_cfg=None)))
        self.backbone = self.dynamic.backbone

    def make_inputs(self, batch: int, size: tuple[int, int]) -> Any:
        if self.draw is not None:
            data = self.draw(batch, size)
        else:
            from mmdet.testing import demo_mm_inputs
            data = demo_mm_inputs(batch, (3, *size), num_classes=3, with_mask=getattr(self.dynamic, 'with_mask', False))
        return self.dynamic.data_preprocessor(data, False)

    def predict(self, model: nn.Module, inputs: Any) -> None:
        with torch.autocast(**self._autocast):
            model(**inputs, mode='predict')

    def loss(self, model: nn.Module, inputs: Any) -> Tensor:
        with torch.autocast(**self._autocast):
            return model.parse_losses(model(**copy.deepcopy(inputs), mode='loss'))[0]


def force_rate(backbone: DynamicBackbone, rate: float, batch: int, generator: torch.Generator, wiring: str) -> None:
    """Forces random decisions of which exactly the given share, rounded, is open.

    Args:
        backbone: Gates are opened, or nodes kept alive; the first node of a stage always is.
        rate: In [0, 1].
        batch: Images.
        generator: Where the randomness comes from.
        wiring: How the nodes that are alive are connected: by all edges, or by those of a chain.
    """
    nodes = {name: len(stage) for name, stage in backbone.stages()} if hasattr(backbone, 'stages') else {}
    names = [(name, i) for name, n in nodes.items() for i in range(1, n)] or [*backbone.gates()]
    slots = torch.zeros(len(names) * batch)
    slots[torch.randperm(len(slots), generator=generator)[:round(rate * len(slots))]] = 1
    runs = dict(zip(names, slots.view(len(names), batch)))
    if not nodes:
        backbone.force_decisions(runs)
        return
    forced = {f'{name}.{i}': run for (name, i), run in runs.items() if f'{name}.{i}' in backbone.gates()}
    for name, n in nodes.items():
        alive = torch.stack([torch.ones(batch), *(runs[name, i] for i in range(1, n)), torch.ones(batch)], dim=1)
        edges = (alive[:, :, None] * alive[:, None, :]).triu(1)
        if wiring == 'chain':
            # Of the nodes alive before a vertex, it reads the last.
            position = torch.arange(n + 1)
            last = (edges * (position[:, None] + 1)).amax(dim=1, keepdim=True) - 1
            edges = edges * (position[:, None] == last)
        elif backbone.node == 'block':
            edges = edges / edges.sum(dim=1, keepdim=True).clamp(min=1)
        forced[name] = edges
    backbone.force_decisions(forced)
