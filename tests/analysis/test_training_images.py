"""Training images come as evaluation would see them."""
from pathlib import Path

import pytest
import torch
from mmengine.config import Config
from mmengine.registry import init_default_scope

from mmdyn.analysis.training_images import training_batch, training_images, with_annotations
from mmdyn.demo.shapes import make_dataset
from mmdyn.engine import InputError

ROOT = Path(__file__).resolve().parents[2]
ANNOTATIONS = dict(type='LoadAnnotations', with_bbox=True)
MASKS = dict(type='mmdet.LoadAnnotations', with_mask=True)


@pytest.fixture(scope='module')
def cfg(tmp_path_factory) -> Config:
    """The demo's: pictures of 64 pixels, resized to 128."""
    root = tmp_path_factory.mktemp('shapes')
    make_dataset(root, train=5, val=1, side=64, max_objects=3, seed=0)
    cfg = Config.fromfile(ROOT / 'configs' / 'demo' / 'faster-rcnn_r18_fpn_shapes.py')
    cfg.merge_from_dict({f'{split}_dataloader.dataset.data_root': f'{root}/' for split in ('train', 'val')})
    cfg.val_dataloader.batch_size = 2
    init_default_scope('mmdet')
    return cfg


def test_annotations_go_with_the_image_and_nothing_is_augmented():
    load, pack = dict(type='LoadImageFromFile'), dict(type='PackDetInputs')
    evaluation = [load, dict(type='Resize', scale=64), ANNOTATIONS, pack]
    training = [load, MASKS, dict(type='RandomFlip', prob=0.5), pack]
    assert with_annotations(evaluation, training) == [evaluation[0], MASKS, evaluation[1], evaluation[3]]
    assert with_annotations(evaluation[:2], training[2:]) == evaluation[:2]  # classifiers load none


@pytest.mark.parametrize('count, chosen', [(2, [1, 3]), (3, [1, 2, 4]), (9, [1, 2, 3, 4, 5])])
def test_images_are_spread_evenly(cfg, count, chosen):
    batches = training_images(cfg, count)
    assert [sample.img_id for batch in batches for sample in batch['data_samples']] == chosen
    assert [len(batch['inputs']) for batch in batches][:1] == [2]


def test_they_are_the_same_every_time_and_have_their_boxes(cfg):
    first, second = training_images(cfg, 5), training_images(cfg, 5)
    for one, other in zip(first, second):
        assert all(torch.equal(*pair) for pair in zip(one['inputs'], other['inputs']))
    boxes = torch.cat([sample.gt_instances.bboxes.tensor for batch in first for sample in batch['data_samples']])
    assert boxes.max() > 64  # they have grown with the image
    assert 'flip' not in first[0]['data_samples'][0].metainfo


def test_a_batch_is_trained_on_at_the_wanted_size(cfg):
    batch = training_batch(cfg, 3, (96, 96))
    assert [tuple(image.shape) for image in batch['inputs']] == 3 * [(3, 96, 96)]
    assert all(len(sample.gt_instances) for sample in batch['data_samples'])
    assert 'flip' in batch['data_samples'][0].metainfo  # as in training
    with pytest.raises(InputError, match='--batch 6 is more than the 5 training images'):
        training_batch(cfg, 6, (96, 96))


def test_wrappers_and_filters_are_left_out(cfg):
    wrapped = Config(cfg.to_dict())
    repeated = dict(type='RepeatDataset', times=3, dataset=cfg.train_dataloader.dataset)
    wrapped.train_dataloader.dataset = dict(type='ConcatDataset', datasets=[repeated, cfg.train_dataloader.dataset])
    wrapped.train_dataloader.dataset.datasets[0].dataset.filter_cfg = dict(min_size=1000)
    batches = training_images(wrapped, 100)
    assert [sample.img_id for batch in batches for sample in batch['data_samples']] == 2 * [1, 2, 3, 4, 5]


def test_there_must_be_some(cfg):
    lacking = Config(dict(cfg.to_dict(), train_dataloader=None))
    with pytest.raises(InputError, match='expected train_dataloader in the config.*give --values alone'):
        training_images(lacking, 5)
    empty = Config(cfg.to_dict())
    empty.train_dataloader.dataset.indices = 0
    with pytest.raises((InputError, ValueError), match='train_dataloader.dataset: expected images'):
        training_images(empty, 5)
