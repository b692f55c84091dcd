"""What the tools check before anything is built."""
import argparse
import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch.distributed
from mmengine.config import Config

from mmdyn.engine import (InputError, check_datasets, check_file, common_parser, data_check, join_process_group,
                          leave_process_group, load_config)
from mmdyn.engine.process_group import TORCHRUN_VARIABLES

ANN_FILE = 'annotations/instances_train2017.json'
COCO = dict(
    images=[dict(id=1, file_name='a.jpg', height=4, width=4)],
    annotations=[dict(id=1, image_id=1, category_id=1, bbox=[0, 0, 2, 2], area=4, iscrowd=0)],
    categories=[dict(id=1, name='cat')])


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A sound data set of one image."""
    (tmp_path / 'annotations').mkdir()
    (tmp_path / 'train2017').mkdir()
    (tmp_path / 'train2017' / 'a.jpg').touch()
    (tmp_path / ANN_FILE).write_text(json.dumps(COCO))
    return tmp_path


def coco_config(root: Path, **changes: Any) -> Config:
    dataset = dict(type='CocoDataset', data_root=str(root), ann_file=ANN_FILE, data_prefix=dict(img='train2017/'))
    return Config(dict(train_dataloader=dict(dataset=dataset | changes)))


def test_sound_data_passes(root: Path) -> None:
    check_datasets(coco_config(root), ('train', 'val'))
    check_datasets(coco_config(root, data_root='', ann_file=str(root / ANN_FILE),
                               data_prefix=dict(img=str(root / 'train2017'))), ('train', ))
    check_datasets(coco_config(root, metainfo=dict(classes=('cat', 'dog'))), ('train', ))



@pytest.mark.parametrize('spoil, message', [
    (lambda root: (root / ANN_FILE).unlink(), 'dataset.ann_file: expected an annotation file, found nothing at'),
    (lambda root: (root / ANN_FILE).write_text(''), 'ann_file: expected an annotation file, found an empty one'),
    (lambda root: (root / ANN_FILE).write_text('{"images": [{'), 'ann_file: expected JSON, found a malformed file at'),
    (lambda root: (root / ANN_FILE).write_bytes(b'\xff\xd8\xff'), 'ann_file: expected JSON, found a malformed file at'),
    (lambda root: (root / ANN_FILE).write_text('[]'), 'found no images, annotations, categories in'),
    (lambda root: (root / ANN_FILE).write_text(json.dumps(COCO | dict(images=[]))), 'found no images in'),
    (lambda root: (root / ANN_FILE).write_text(json.dumps(COCO | dict(annotations={}))), 'found no annotations in'),
    (lambda root: (root / ANN_FILE).write_text(json.dumps(COCO | dict(images=['a.jpg']))), 'whose lists hold objects'),
    (lambda root: (root / 'train2017' / 'a.jpg').unlink(), 'img: expected a folder of images, found no file'),
    (lambda root: (root / 'train2017' / 'a.jpg').rename(root / 'train2017' / 'b.jpg'), 'found no a.jpg there'),
    (lambda root: (root / 'train2017').rename(root / 'elsewhere'), 'expected a folder of images, found nothing at'),
    (lambda root: root.rename(root.with_name('moved')), 'dataset.data_root: expected a folder, found nothing at'),
])
def test_bad_data_is_named_with_the_key_to_change(root: Path, spoil: Callable[[Path], Any], message: str) -> None:
    spoil(root)
    with pytest.raises(InputError) as caught:
        check_datasets(coco_config(root), ('train', ))
    assert message in str(caught.value) and 'train_dataloader.dataset.' in str(caught.value)


def test_classes_that_the_file_does_not_have(root: Path) -> None:
    with pytest.raises(InputError, match=r'expected some of the classes dog \(metainfo.classes\), found cat'):
        check_datasets(coco_config(root, metainfo=dict(classes=('dog', ))), ('train', ))


def test_wrapped_and_joined_datasets_are_looked_into(root: Path) -> None:
    bad = dict(type='CocoDataset', data_root=str(root), ann_file='none.json', data_prefix=dict(img='train2017'))
    good = dict(bad, ann_file=ANN_FILE)
    joined = dict(type='ConcatDataset', datasets=[good, bad])
    cfg = Config(dict(train_dataloader=dict(dataset=dict(type='RepeatDataset', times=2, dataset=joined))))
    with pytest.raises(InputError) as caught:
        check_datasets(cfg, ('train', ))
    assert 'train_dataloader.dataset.dataset.datasets.1.ann_file' in str(caught.value)
    assert 'datasets.0' not in str(caught.value)


def test_all_problems_come_at_once_and_evaluators_too(root: Path) -> None:
    cfg = coco_config(root, ann_file='none.json')
    cfg.val_dataloader = coco_config(root, data_root=str(root / 'none')).train_dataloader
    cfg.val_evaluator = [dict(type='CocoMetric', ann_file=str(root / 'other.json'))]
    with pytest.raises(InputError) as caught:
        check_datasets(cfg, ('train', 'val'))
    for key in ('train_dataloader.dataset.ann_file', 'val_dataloader.dataset.data_root', 'val_evaluator.0.ann_file'):
        assert key in str(caught.value)


def test_a_config_may_say_where_its_data_come_from(root: Path) -> None:
    cfg = coco_config(root, ann_file='none.json')
    cfg.data_source = 'python make_data.py data'
    with pytest.raises(InputError, match="none.json\nThe config's own data: python make_data.py data$"):
        check_datasets(cfg, ('train', ))


def test_a_test_set_may_come_without_ground_truth(root: Path) -> None:
    (root / ANN_FILE).write_text(json.dumps(dict(images=COCO['images'], categories=COCO['categories'])))
    cfg = coco_config(root)
    cfg.test_dataloader = cfg.pop('train_dataloader')
    check_datasets(cfg, ('test', ))


def test_a_large_file_that_was_cut_off(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(data_check, 'LARGEST_PARSED_FILE', 100)
    check_datasets(coco_config(root), ('train', ))
    (root / ANN_FILE).write_text(json.dumps(COCO)[:-1])
    with pytest.raises(InputError, match='cut off'):
        check_datasets(coco_config(root), ('train', ))


@pytest.mark.parametrize('changes', [
    dict(backend_args=dict(backend='petrel')),
    dict(data_root='s3://bucket/coco/'),
    dict(type='CIFAR10', data_root='none'),
    dict(type='mmpretrain.CIFAR100', data_root='none'),
])
def test_what_is_not_on_this_disk_is_left_alone(root: Path, changes: dict[str, Any]) -> None:
    (root / ANN_FILE).unlink()
    check_datasets(coco_config(root, **changes), ('train', ))


def test_image_folders_of_classifiers(root: Path) -> None:
    dataset = dict(type='ImageNet', data_root=str(root), split='train')
    cfg = Config(dict(train_dataloader=dict(dataset=dataset)))
    with pytest.raises(InputError, match='dataset.data_root: expected images, found an empty file at .*train2017/a.jpg'):
        check_datasets(cfg, ('train', ))
    (root / 'train2017' / 'a.jpg').write_bytes(b'jpeg')
    (root / 'train2017' / '_SUCCESS').touch()
    check_datasets(cfg, ('train', ))
    dataset = dict(type='CustomDataset', data_root=str(root), data_prefix='train')
    with pytest.raises(InputError, match='dataset.data_prefix: expected a folder of images, found nothing'):
        check_datasets(Config(dict(train_dataloader=dict(dataset=dataset))), ('train', ))


def test_large_folders_are_sampled(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for n in range(100):
        (root / 'train2017' / f'{n}.jpg').write_bytes(b'jpeg')
    (root / 'train2017' / 'a.jpg').unlink()
    monkeypatch.setattr(data_check, 'SAMPLED_IMAGES', 10)
    sizes = []
    monkeypatch.setattr(os.path, 'getsize', lambda path: sizes.append(path) or 4)
    check_datasets(Config(dict(train_dataloader=dict(dataset=dict(type='ImageNet', data_root=str(root))))), ('train', ))
    assert len(sizes) == 10


def test_one_process_of_a_machine_looks(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cfg = coco_config(root, ann_file='none.json')
    monkeypatch.setenv('LOCAL_RANK', '1')
    check_datasets(cfg, ('train', ))
    monkeypatch.setattr(data_check.dist, 'all_gather_object', lambda own: [['- its disk is empty'], own, ['- as that one']])
    with pytest.raises(InputError, match='(?s)its disk is empty.*as that one'):
        check_datasets(cfg, ('train', ))


@pytest.mark.parametrize('make, found', [(lambda path: None, 'nothing'), (Path.mkdir, 'a folder'),
                                         (Path.touch, 'an empty file')])
def test_files_named_on_the_command_line(tmp_path: Path, make: Callable[[Path], None], found: str) -> None:
    path = tmp_path / 'epoch_1.pth'
    make(path)
    with pytest.raises(InputError, match=f'expected a checkpoint, found {found} at {path}'):
        check_file(str(path), 'a checkpoint')
    check_file('torchvision://resnet50', 'a checkpoint')


def parse(*arguments: str) -> argparse.Namespace:
    return common_parser('').parse_args(arguments)


def test_load_config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv('LOCAL_RANK', '0')
    file = tmp_path / 'my.py'
    file.write_text('model = dict(depth=50)\nwork_dir = None\n')
    cfg = load_config(parse(str(file), '--cfg-options', 'model.depth=18', 'names=a,b'))
    assert cfg.model.depth == 18 and cfg.names == ['a', 'b'] and cfg.launcher == 'none'
    assert cfg.work_dir == os.path.join('work_dirs', 'my')
    assert load_config(parse(str(file), '--work-dir', 'here')).work_dir == 'here'
    with pytest.raises(InputError, match='expected a config file, found nothing at no.py'):
        load_config(parse('no.py'))


def test_one_process_needs_no_group() -> None:
    cfg = Config(dict(launcher='none'))
    join_process_group(cfg)
    assert 'model_wrapper_cfg' not in cfg


def test_a_group_is_joined_and_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr('mmdyn.engine.process_group.get_device', lambda: 'cpu')
    with socket.socket() as free:
        free.bind(('127.0.0.1', 0))
        port = free.getsockname()[1]
    values = dict(zip(TORCHRUN_VARIABLES, ('0', '0', '1', '127.0.0.1', str(port))))
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    cfg = Config(dict(launcher='pytorch'))
    join_process_group(cfg)
    assert torch.distributed.is_initialized()
    assert cfg.model_wrapper_cfg.device_ids is None
    leave_process_group()
    assert not torch.distributed.is_initialized()
    leave_process_group()  # nothing is left to end


@pytest.mark.parametrize('launcher, message', [('pytorch', 'expects to be started by torchrun'),
                                               ('slurm', 'needs GPUs and found none')])
def test_launchers_that_cannot_work(monkeypatch: pytest.MonkeyPatch, launcher: str, message: str) -> None:
    monkeypatch.delenv('RANK', raising=False)
    monkeypatch.setattr('mmdyn.engine.process_group.get_device', lambda: 'cpu')
    with pytest.raises(InputError, match=message):
        join_process_group(Config(dict(launcher=launcher)))
