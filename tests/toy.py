"""A classifier so small that a Runner can train it in a second, shared by the hooks' tests."""
from typing import Optional

import torch
from mmengine.evaluator import BaseMetric
from mmengine.model import BaseModel
from mmengine.runner import Runner
from mmengine.structures import BaseDataElement
from torch.utils.data import Dataset

from mmdyn.registry import MODELS

SMALL_AIG = dict(type='mmdyn.AIGResNet', depth=18, base_channels=4, num_stages=2, strides=(1, 2),
                 dilations=(1, 1), out_indices=(1, ), norm_eval=False)


class Pictures(Dataset):
    """Seeded noise; ``poison_at``: the index whose picture is NaN."""

    METAINFO: dict = {}

    def __init__(self, length: int = 8, poison_at: Optional[int] = None) -> None:
        generator = torch.Generator().manual_seed(0)
        self.images = torch.randn(length, 3, 16, 16, generator=generator)
        if poison_at is not None:
            self.images[poison_at] = float('nan')

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> dict:
        return dict(inputs=self.images[index], data_samples=BaseDataElement(
            label=index % 2, gt_label=torch.tensor([index % 2])))


class Classifier(BaseModel):

    def __init__(self, backbone: dict) -> None:
        super().__init__(data_preprocessor=dict(type='ImgDataPreprocessor'))
        self.backbone = MODELS.build(backbone)
        self.head = torch.nn.Linear(8, 2)

    def forward(self, inputs, data_samples=None, mode: str = 'tensor'):
        scores = self.head(self.backbone(inputs)[-1].mean(dim=(2, 3)))
        if mode == 'loss':
            labels = torch.tensor([sample.label for sample in data_samples])
            return dict(loss_cls=torch.nn.functional.cross_entropy(scores, labels))
        if mode == 'predict':
            for sample, score in zip(data_samples, scores):
                sample.set_field(score, 'score')
            return data_samples
        return scores


class KeepSamples(BaseMetric):
    """Keeps every prediction as the evaluator hands it over."""

    def process(self, data_batch, data_samples) -> None:
        self.results.extend(data_samples)

    def compute_metrics(self, results: list) -> dict:
        KeepSamples.seen = results
        return dict(count=len(results))


def toy_runner(work_dir, backbone: dict, *, hooks=(), iters: int = 4, poison_at=None,
               metric=None, **options) -> Runner:
    """A Runner over the toy model; ``options`` go to the Runner."""
    train = dict(dataset=Pictures(poison_at=poison_at), batch_size=2, num_workers=0,
                 sampler=dict(type='DefaultSampler', shuffle=False))
    settings = dict(
        model=Classifier(backbone), work_dir=str(work_dir), train_dataloader=train,
        train_cfg=dict(type='IterBasedTrainLoop', max_iters=iters, val_interval=iters),
        optim_wrapper=dict(optimizer=dict(type='SGD', lr=0.01)), custom_hooks=list(hooks),
        default_hooks=dict(logger=dict(type='LoggerHook', interval=2),
                           checkpoint=dict(type='CheckpointHook', by_epoch=False, interval=2)),
        log_processor=dict(by_epoch=False, window_size=2), randomness=dict(seed=0),
        experiment_name=f'toy_{len(str(work_dir))}_{id(train)}')
    if metric is not None:
        settings.update(val_dataloader=train, val_cfg=dict(), val_evaluator=[metric])
    settings.update(options)
    return Runner(**settings)



__all__ = ['Classifier', 'KeepSamples', 'Pictures', 'SMALL_AIG', 'toy_runner']
