"""InferenceGraphHook: which images it draws, that they reach the back ends, and what it refuses."""
from pathlib import Path

import mmcv
import numpy as np
import pytest
from mmengine.structures import BaseDataElement
from toy import SMALL_AIG, Classifier, Pictures, toy_runner

from mmdyn.hooks import InferenceGraphHook

HOOK = dict(type='mmdyn.InferenceGraphHook', interval=3)


class PictureFiles(Pictures):
    """The noise, with an image file for each."""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.folder = folder
        for n in range(len(self)):
            mmcv.imwrite(np.full((16, 16, 3), 20 * n, np.uint8), str(folder / f'{n}.png'))

    def __getitem__(self, index: int) -> dict:
        metainfo = dict(img_path=str(self.folder / f'{index}.png'), img_id=index)
        return dict(super().__getitem__(index), data_samples=BaseDataElement(metainfo=metainfo, label=index % 2))


def validate(folder: Path, dataset: Pictures, *, backends=('LocalVisBackend', ), **hook):
    data = dict(dataset=dataset, batch_size=3, num_workers=0, sampler=dict(type='DefaultSampler', shuffle=False))
    runner = toy_runner(folder, SMALL_AIG, hooks=[dict(HOOK, **hook)], val_dataloader=data, val_cfg=dict(),
                        val_evaluator=[dict(type='KeepSamples')], visualizer=dict(
                            type='Visualizer', vis_backends=[dict(type=own) for own in backends], name=str(folder)))
    runner.val()
    return sorted(path.name for path in Path(runner.log_dir).glob('vis_data/vis_image/*.png'))


@pytest.fixture(autouse=True)
def keep_samples():
    """The metric of the toy, under a name that a config can say."""
    from mmengine.registry import METRICS
    from toy import KeepSamples
    if 'KeepSamples' not in METRICS:
        METRICS.register_module(module=KeepSamples)


def test_every_third_image(tmp_path):
    assert validate(tmp_path, PictureFiles(tmp_path)) == [f'inference_graph_{n}_0.png' for n in (0, 3, 6)]


def test_no_more_than_the_maximum(tmp_path):
    assert validate(tmp_path, PictureFiles(tmp_path), interval=1, max_images=2) == [
        'inference_graph_0_0.png', 'inference_graph_1_0.png']


def test_the_picture_is_of_the_image_s_own_place_in_the_batch(tmp_path, monkeypatch):
    read = []
    monkeypatch.setattr('mmdyn.hooks.inference_graph_hook.read_graph',
                        lambda backbone, index, account: read.append(index))
    monkeypatch.setattr('mmdyn.hooks.inference_graph_hook.draw_inference_graph',
                        lambda graph, image, prediction, title: image)
    validate(tmp_path, PictureFiles(tmp_path), interval=4)
    assert read == [0, 1]  # images 0 and 4, in batches of 3


def test_tensorboard_gets_what_is_on_disk(tmp_path):
    pytest.importorskip('tensorboard')
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
    names = validate(tmp_path, PictureFiles(tmp_path), backends=('LocalVisBackend', 'TensorboardVisBackend'))
    folder, = tmp_path.glob('**/vis_data')
    events = EventAccumulator(str(folder)).Reload()
    assert events.Tags()['images'] == [name.removesuffix('_0.png') for name in names]
    for name in names:
        logged, = events.Images(name.removesuffix('_0.png'))
        assert np.array_equal(mmcv.imfrombytes(logged.encoded_image_string), mmcv.imread(str(folder / 'vis_image' / name)))


def test_without_paths_it_says_so_and_goes_on(tmp_path):
    assert validate(tmp_path, Pictures()) == []
    assert 'draws nothing: the predictions have no img_path' in next(tmp_path.glob('**/*.log')).read_text()


def test_refusals(tmp_path):
    with pytest.raises(ValueError, match='interval must be an int of at least 1, got 0'):
        InferenceGraphHook(interval=0)
    runner = toy_runner(tmp_path, SMALL_AIG)
    runner.model = Classifier(dict(type='mmdet.ResNet', depth=18))
    with pytest.raises(ValueError, match='dynamic backbone.*got Classifier without one'):
        InferenceGraphHook().before_run(runner)
