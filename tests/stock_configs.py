"""MMDetection's own configs with a dynamic backbone in place of theirs, shrunk until a step takes a second.

The arguments of the backbone stay, but for the depth: 101 and 152 become 50, whose feature maps are the same.
"""
import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from itertools import islice
from pathlib import Path
from typing import Any

import mmdet
import torch
from mmdet.models.mot import BaseMOTModel
from mmdet.registry import MODELS
from mmdet.structures import ReIDDataSample
from mmdet.testing import demo_mm_inputs, demo_mm_proposals, demo_track_inputs
from mmengine.config import Config
from mmengine.logging import MessageHub
from mmengine.registry import init_default_scope
from torch import nn

from mmdyn.backbones.dynamic_backbone import DynamicBackbone

ROOT = Path(mmdet.__file__).parent / '.mim' / 'configs'
COUNTERPARTS = {
    'ResNet': ('AIGResNet', 'DGResNet'),
    'mmpretrain.ResNet': ('AIGResNet', 'DGResNet'),
    'ResNeXt': ('AIGResNeXt', 'DGResNeXt'),
    'RegNet': ('AIGRegNet', 'DGRegNet'),
    'MobileNetV2': ('AIGMobileNetV2', 'DGMobileNetV2'),
}
# Of these there are few configs, and each is tried with both counterparts.
FEW = ('RegNet', 'MobileNetV2')
# What costs time and tells nothing about a backbone: option -> its largest value here.
LARGEST = dict(num=32, nms_pre=50, max_per_img=5, num_proposals=5, fc_out_channels=32, feedforward_channels=32,
               num_queries=12, num_points=256, num_classes=100)
# Heads whose parts name the width of fully connected layers in more than one way.
FULL_WIDTH = ('scnet/', )
# Whose masks need a box, and random scores are low.
ANY_SCORE = ('point_rend/', )
# Checkpoints, and what pads or scales all pictures to a training's size, up to 1024 pixels.
DROPPED = ('init_cfg', 'pretrained', 'checkpoint', 'teacher_ckpt', 'batch_augments')
# What Caffe's weights were trained for. Random ones make maps of them on which dyhead's offsets leave the picture.
PIXELS_AS_THEY_ARE = [1.0, 1.0, 1.0]
# 64 pixels are enough for all but these: mmcv's deformable convolution takes no map smaller than its kernel.
IMAGE_SIDES = {'ddod/': 288, 'reid/': 256, 'ssd/ssdlite': 320}
ONE_SIZE = ('yolact/', )  # its loss stacks the anchors of all pictures
DEFORMABLE, DEFORMABLE_SIDE = ('DCN', 'DCNv2'), 128

TRACKER = 'the tracker has no loss: its detector and its re-identification net are configs of their own'
DEFORMABLE_POOL = "mmcv's deformable RoI pooling has no CPU kernel"
MASKED_CONVOLUTION = "predicts with mmcv's masked convolution, which has no CPU kernel"
MISSING_BASE = 'names a _base_ that this release of MMDetection lacks'
# The start of a config's path -> why it is left out. Nothing else may fail.
EXCEPTIONS = {
    'carafe/': "mmcv's CARAFE has no CPU kernel",
    'cascade_rpn/cascade-rpn_r50-': 'CascadeRPNHead misses num_classes, with a static backbone too',
    'clrnet/': 'names a data preprocessor, LineDetDataProcessor, that this release of MMDetection lacks',
    'dcn/faster-rcnn_r50_fpn_dpool_': DEFORMABLE_POOL,
    'dcnv2/faster-rcnn_r50_fpn_mdpool_': DEFORMABLE_POOL,
    'deepsort/': TRACKER,
    'grounding_dino/': 'needs fairscale, and a language model from a hub',
    'guided_anchoring/ga-faster-': MASKED_CONVOLUTION,
    'guided_anchoring/ga-r': MASKED_CONVOLUTION,
    'sort/sort_': TRACKER,
    'sort/faster-rcnn_r50_fpn_8xb2-': MISSING_BASE,
    'ssd/': "SSDHead's prediction asks for a loss function that it has not got, with a static backbone too",
    'strongsort/': TRACKER,
}
# Configs that need a package of their own: the start of the path -> what to import.
NEEDS = {'lad/': 'sklearn', 'paa/': 'sklearn'}

_BACKBONE = re.compile(r"type='(mmpretrain\.)?(ResNet|ResNeXt|RegNet|MobileNetV2)'")
_BASE = re.compile(r"'([\w./+-]+\.py)'")


def lookup(table: dict[str, Any], name: str, default: Any = None) -> Any:
    """The entry whose key the config's path starts with."""
    return next((value for start, value in table.items() if name.startswith(start)), default)


def nested(value: Any) -> Iterator[dict]:
    """All dicts inside a config, outer ones first."""
    if isinstance(value, dict):
        yield value
        value = list(value.values())
    if isinstance(value, (list, tuple)):
        for item in value:
            yield from nested(item)


def backbones(model: dict) -> list[dict]:
    """The backbones of a model that have a dynamic counterpart; teachers are none of them."""
    found = [part['backbone'] for part in nested(model) if isinstance(part.get('backbone'), dict)]
    return [backbone for backbone in found if backbone.get('type') in COUNTERPARTS]


@cache
def mentions_a_backbone(path: Path) -> bool:
    """Whether a config or one of its bases names one: a quick look, before the config is read."""
    if not path.is_file():
        return False
    text = path.read_text(encoding='utf-8')
    return bool(_BACKBONE.search(text)) or any(mentions_a_backbone((path.parent / base).resolve())
                                               for base in _BASE.findall(text) if not base.startswith('mm'))


def is_ours(name: str) -> bool:
    """Whether a config is a model whose backbone has a dynamic counterpart, as far as it can be read."""
    if lookup(EXCEPTIONS, name) == MISSING_BASE:
        return True
    model = Config.fromfile(ROOT / name).get('model')
    return model is not None and bool(backbones(model))


def candidates() -> dict[str, list[str]]:
    """Folder -> its configs that may be ours, as paths below :data:`ROOT`."""
    found: dict[str, list[str]] = {}
    for path in sorted(ROOT.glob('*/**/*.py')):
        name = path.relative_to(ROOT).as_posix()
        if not name.startswith('_base_/') and mentions_a_backbone(path):
            found.setdefault(name.split('/')[0], []).append(name)
    return found


def find(*, everything: bool) -> list[str]:
    """All configs that are ours, or the first one of each folder (one that is no exception, if there is one)."""
    if everything:
        return [name for names in candidates().values() for name in names if is_ours(name)]
    firsts = []
    for names in candidates().values():
        preferred = sorted(names, key=lambda name: lookup(EXCEPTIONS, name) is not None)
        firsts += islice(filter(is_ours, preferred), 1)
    return firsts


def choices(name: str) -> tuple[int, ...]:
    """Which counterparts a config is tried with, 0 (AIG) or 1 (DG): always the same, and half of the configs either."""
    few = any(backbone.type in FEW for backbone in backbones(Config.fromfile(ROOT / name).model))
    return (0, 1) if few else (zlib.crc32(name.encode()) % 2, )


def dynamic_model(name: str, choice: int) -> dict:
    """The model of a stock config, with the chosen dynamic backbone, shrunk and without checkpoints."""
    model = Config.fromfile(ROOT / name).model
    if isinstance(model.get('teacher_config'), str):
        teacher = Config.fromfile(ROOT / Path(model.teacher_config).relative_to('configs'))
        model.teacher_config = dict(model=teacher.model)
    for backbone in backbones(model):
        counterpart = COUNTERPARTS[backbone.type][choice]
        if backbone.type != 'MobileNetV2':
            backbone.zero_init_residual = False  # branches of zeros would give gates no gradient in the first step
        backbone.type = f'mmdyn.{counterpart}'
    for part in nested(model):
        if 'score_thr' in part and name.startswith(ANY_SCORE):
            part.score_thr = 0.0
        _shrink(part, kept=('fc_out_channels', ) if name.startswith(FULL_WIDTH) else ())
    return model


def _shrink(part: dict, kept: tuple[str, ...]) -> None:
    for key, value in part.items():
        if key in DROPPED:
            part[key] = None
        elif key == 'std' and value == PIXELS_AS_THEY_ARE:
            part[key] = [58.0] * 3
        elif key in LARGEST and key not in kept and isinstance(value, int):
            part[key] = min(value, LARGEST[key])
    if part.get('clip_border') is False:  # random boxes leave the picture, and to paste masks one must be inside
        part['clip_border'] = True
    if part.get('depth') in (101, 152):
        part['depth'] = 50
    if part.get('type') in ('SyncBN', 'MMSyncBN'):  # on GPUs only
        part['type'] = 'BN'


def demo_batch(name: str, model: dict, *, training: bool) -> dict:
    """A batch as MMDetection's own tests make it, of the kind that the model takes; two pictures, two sizes."""
    deforms = any(part.get('type') in DEFORMABLE for part in nested(model))
    side = lookup(IMAGE_SIDES, name, DEFORMABLE_SIDE if deforms else 64)
    shapes = [(3, side, side), (3, side, side) if name.startswith(ONE_SIZE) else (3, side - 3, side - 10)]
    found = [part.get(key) for part in nested(model) for key in ('num_classes', 'num_things_classes')]
    classes = min((number for number in found if isinstance(number, int)), default=1)  # an RPN says none
    if model['type'] == 'BaseReID':
        return _people(side)
    if issubclass(MODELS.get(model['type']), BaseMOTModel):
        return demo_track_inputs(1, 2, key_frames_inds=[0] if training else None, image_shapes=shapes[:1],
                                 num_items=[2], num_classes=classes, with_mask=True)
    batch = demo_mm_inputs(2, shapes, num_items=[3, 2], num_classes=10, with_mask=True, with_semantic=True)
    for sample, proposals in zip(batch['data_samples'], demo_mm_proposals(shapes, 20)):
        sample.gt_instances.labels %= classes
        if 'rpn_head' not in model:
            sample.proposals = proposals
    if model['type'] == 'SoftTeacher' and training:
        return _semi_supervised(batch)
    return batch


def _people(height: int) -> dict:
    """Two pictures of each of two people."""
    samples = [ReIDDataSample().set_gt_label(i // 2) for i in range(4)]
    return dict(inputs=[torch.randint(0, 255, (3, height, height // 2), dtype=torch.uint8) for _ in samples],
                data_samples=samples)


def _semi_supervised(batch: dict) -> dict:
    """The same pictures labelled, and unlabelled as the teacher and the student see them."""
    for sample in batch['data_samples']:
        sample.set_metainfo(dict(homography_matrix=torch.eye(3).numpy()))
    branches = ('sup', 'unsup_teacher', 'unsup_student')
    return {key: {branch: [value.clone() for value in values] for branch in branches} for key, values in batch.items()}


@dataclass
class Outcome:
    """What a step of training and a prediction gave."""
    loss: torch.Tensor
    deciders: dict[str, bool]  # name of each gate or router to be trained -> whether it got a finite gradient, not zero
    pictures: int
    predictions: int


def run(name: str, choice: int) -> Outcome:
    """Builds a config's model with one of its dynamic backbones, trains a step and predicts."""
    init_default_scope('mmdet')
    for count in ('iter', 'epoch'):  # some losses ask how far the training is
        MessageHub.get_current_instance().update_info(count, 0)
    cfg = dynamic_model(name, choice)
    model = MODELS.build(cfg)
    model.init_weights()  # some of MMDetection's parameters are unset memory until then
    model.train()  # which returns nothing in some of MMDetection's models
    batch = model.data_preprocessor(demo_batch(name, cfg, training=True), True)
    loss, _ = model.parse_losses(model(**batch, mode='loss'))
    loss.backward()
    deciders = deciders_that_learn(model)
    model.eval()
    with torch.no_grad():
        batch = model.data_preprocessor(demo_batch(name, cfg, training=False), False)
        predictions = model(**batch, mode='predict')
    return Outcome(loss, deciders, len(batch['inputs']), len(predictions))


def deciders_that_learn(model: nn.Module) -> dict[str, bool]:
    """Gates and routers with parameters to be trained -> whether they got a finite gradient that is not zero."""
    backbones = [module for module in model.modules() if isinstance(module, DynamicBackbone)]
    return {
        f'{type(decider).__name__} {number} of backbone {i}': _has_gradient(decider)
        for i, backbone in enumerate(backbones) for number, decider in enumerate(backbone.deciders())
        if any(parameter.requires_grad for parameter in decider.parameters())
    }


def _has_gradient(decider: nn.Module) -> bool:
    gradients = [p.grad for p in decider.parameters() if p.requires_grad and p.grad is not None]
    return any(gradient.any() for gradient in gradients) and all(gradient.isfinite().all() for gradient in gradients)
