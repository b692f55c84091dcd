"""How robust a dynamic model is beside a static one, and how much its routes change."""
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Optional

import torch
from mmengine.config import Config
from mmengine.runner import Runner
from torch import Tensor

from ..engine import InputError, check_datasets, check_output_folder
from . import adversarial, corrupted
from .robustness_table import draw, table
from .trained_model import build_model, default_folder, evenly, load_weights, loader_with_images, read_config


@dataclass(frozen=True)
class Study:
    """The options of tools/analysis_tools/robustness.py.

    Attributes:
        static: Config and checkpoint of a static model to set beside the dynamic one; ``cfg_options`` hold for it too.
        epsilons: Largest changes of a pixel, of 255.
        jpeg: Quality of the recompression; 0 for none.

    Raises:
        InputError: If an option is out of range.
    """
    config: str
    checkpoint: str
    cfg_options: Optional[Mapping[str, Any]]
    static: Optional[tuple[str, str]]
    out_dir: Optional[Path]
    device: str
    attacks: Sequence[str]
    epsilons: Sequence[float]
    num_images: Optional[int]
    steps: int
    jpeg: int
    corruptions: Sequence[str]
    severities: Sequence[int]

    def __post_init__(self) -> None:
        if any(not 0 < epsilon <= 255 for epsilon in self.epsilons):
            raise InputError(f'--epsilons expects numbers above 0 and at most 255, got {self.epsilons}')
        if any(severity not in range(1, 6) for severity in self.severities):
            raise InputError(f'--severities expects numbers from 1 to 5, got {self.severities}')
        if not 0 <= self.jpeg <= 100:
            raise InputError(f'--jpeg expects a quality from 1 to 100, or 0, got {self.jpeg}')
        for name in ('steps', 'num_images'):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise InputError(f'--{name.replace("_", "-")} expects a number of at least 1, got {value}')

    @property
    def folder(self) -> Path:
        return self.out_dir or default_folder(self.config, self.checkpoint) / 'robustness'

    def read_static(self) -> tuple[Config, str]:
        """Config and checkpoint of the static model."""
        assert self.static is not None
        path, checkpoint = self.static
        return read_config(path, self.cfg_options), checkpoint


def read_batches(cfg: Config, num_images: Optional[int]) -> list[tuple[Tensor, Tensor]]:
    """Pixels in [0, 1] and labels of the validation set, batch by batch.

    Images are taken at even distances from the whole set: folders of classes come one after the other.
    """
    loader = loader_with_images(lambda: Runner.build_dataloader(dict(cfg.val_dataloader), seed=0))
    if num_images is not None:
        loader = evenly(loader, num_images)
    batches = []
    for data in loader:
        if not all('gt_label' in sample for sample in data['data_samples']):
            raise InputError('expected a validation set with labels, as MMPretrain packs them, got images without')
        pixels = data['inputs'] if isinstance(data['inputs'], Tensor) else torch.stack(data['inputs'])
        batches.append((pixels.float() / 255, torch.cat([sample.gt_label for sample in data['data_samples']])))
    return batches


def study_classifiers(study: Study, cfg: Config) -> Iterator[adversarial.Row]:
    subjects = [('dynamic', build_model(cfg), study.checkpoint)]
    if study.static:
        static, checkpoint = study.read_static()
        subjects.insert(0, ('static', build_model(static, dynamic=False), checkpoint))
    for _, model, checkpoint in subjects:
        load_weights(model, checkpoint)
    check_datasets(cfg, ('val', ))
    batches = [(pixels.to(study.device), labels.to(study.device))
               for pixels, labels in read_batches(cfg, study.num_images)]
    check_output_folder(str(study.folder))
    for name, model, _ in subjects:
        torch.manual_seed(0)  # PGD starts at random
        subject = adversarial.Subject(name, model.to(study.device))
        yield from adversarial.study(subject, batches, study.attacks, study.epsilons, steps=study.steps,
                                     jpeg=study.jpeg or None)


def study_detectors(study: Study, cfg: Config) -> Iterator[corrupted.CorruptedRow]:
    if study.num_images is not None:
        raise InputError("--num-images is for classifiers: COCO's metric counts objects of images left out as missed")
    unknown = set(study.corruptions) - set(corrupted.corruption_names())
    if unknown:
        raise InputError(f'--corruptions: unknown {", ".join(sorted(unknown))}; there are '
                         f'{", ".join(corrupted.corruption_names())}')
    build_model(cfg)  # refuses a static backbone
    check_datasets(cfg, ('test', ))
    subjects = [('dynamic', cfg, study.checkpoint, True)]
    if study.static:
        subjects.insert(0, ('static', *study.read_static(), False))
    check_output_folder(str(study.folder))
    for name, own, checkpoint, dynamic in subjects:
        own.work_dir = str(study.folder / name)
        yield from corrupted.study(name, own, checkpoint, study.corruptions, study.severities, dynamic=dynamic)


def report_robustness(config: str, checkpoint: str, **options: Any) -> Iterator[str]:
    """Attacks classifiers, or evaluates detectors on corrupted images, and writes the table and the figure.

    Args:
        config: Of the dynamic model.
        checkpoint: Its weights.
        **options: The others of :class:`Study`.

    Returns:
        Each row of classifiers as it is made, then the whole table.

    Raises:
        InputError, CheckpointError: If an option, a config, a checkpoint or the images cannot be used.
    """
    study = Study(config, checkpoint, **options)
    cfg = read_config(config, study.cfg_options)
    detects = cfg.get('default_scope', 'mmdet') == 'mmdet'
    rows: list[Any] = []
    for row in study_detectors(study, cfg) if detects else study_classifiers(study, cfg):
        rows.append(row)
        if not detects:  # of detectors, MMEngine prints each evaluation
            yield table([row]).splitlines()[-1]
    (study.folder / 'robustness.md').write_text(table(rows) + '\n', encoding='utf-8')
    draw(rows).savefig(study.folder / 'robustness.png', dpi=110)
    yield (f'\n{table(rows)}\n\ntable: {study.folder / "robustness.md"}\n'
           f'figure: {study.folder / "robustness.png"}')
