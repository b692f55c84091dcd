"""One checkpoint at many budgets: its accuracy, and that of controls at the same compute."""
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..engine import InputError, build_runner, check_datasets, with_part
from ..layers.gate_spread import constant_gates, say_constant
from .budget_evaluations import BudgetEvaluations, Setting
from .budget_figure import Reference, draw
from .budget_knob import Knob, check_values, knob_of
from .budget_search import ROUNDING, TOLERANCE
from .budget_table import Row, table, verdict
from .sweep_file import SweepFile
from .trained_model import build_model, default_folder, load_weights, loader_with_images, read_config
from .training_images import training_images

BUDGETS = (0.5, 0.6, 0.7, 0.8, 0.9, 1.0)
ACCURACIES = ('coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'accuracy/top1')


def prepare(cfg: Config, folder: Path) -> None:
    """Leaves of a config what an evaluation needs, and adds what counts."""
    for name in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg[name] = None
    cfg.param_scheduler, cfg.auto_scale_lr = None, None
    cfg.load_from, cfg.resume, cfg.launcher, cfg.work_dir = None, False, 'none', str(folder)
    cfg.model.backbone.init_cfg = None
    cfg.val_evaluator = with_part(cfg.val_evaluator, dict(type='mmdyn.ComputeMetric'))
    cfg.custom_hooks = with_part(cfg.get('custom_hooks'), dict(type='mmdyn.DynamicModelHook'))


def main_accuracy(metrics: dict[str, float], wanted: str | None) -> str:
    """The name of the metric to draw."""
    own = [name for name in metrics if not name.startswith('compute/')]
    if wanted is not None and wanted not in own:
        raise InputError(f'--accuracy {wanted}: the evaluator gives {", ".join(own) or "nothing"}')
    if not own:
        raise InputError('expected an evaluator that measures accuracy, the config has none')
    return wanted or next((name for name in ACCURACIES if name in own), own[0])


def constant_throughout(metrics: Sequence[dict[str, float]]) -> list[str]:
    """The blocks whose gates say about the same of every image, in each of the evaluations."""
    prefix = 'compute/open_probability_std/'
    spreads = [{name.removeprefix(prefix): value for name, value in own.items() if name.startswith(prefix)}
               for own in metrics]
    constant = list(map(constant_gates, spreads))
    return [name for name in constant[0] if all(name in others for others in constant)]


def describe(setting: Setting, knob: Knob) -> str:
    """How a budget is met, in words."""
    at = f'{knob.name} = {setting.value:.6g} costs {setting.share:.3f} of dense on training images'
    if setting.share > setting.budget + ROUNDING:
        return f'a budget of {setting.budget:g} cannot be met: {at}, with everything closed that can be'
    next_below = ', the next below' if setting.budget - setting.share > TOLERANCE else ''
    return f'a budget of {setting.budget:g}: {at}{next_below}'


def check_options(budgets: Sequence[float] | None, train_images: int, seed: int) -> None:
    for budget in budgets or ():
        if not 0 < budget <= 1:
            raise InputError(f'--budgets expects shares of the dense cost in (0, 1], got {budget:g}')
    if train_images < 1:
        raise InputError(f'--train-images expects a number of at least 1, got {train_images}')
    if not 0 <= seed < 2**32:
        raise InputError(f'--seed expects a number in [0, 2^32), got {seed}')


def sweep_budget(config: str, checkpoint: str, *, budgets: Sequence[float] | None, values: Sequence[float] | None,
                 controls: bool, train_images: int, seed: int, accuracy: str | None, static: Sequence[Reference],
                 others: Sequence[Reference], out: Path | None, cfg_options: Mapping[str, Any] | None) -> Iterator[str]:
    """What the options of tools/analysis_tools/sweep_budget.py ask for, piece by piece as it is known.

    Raises:
        InputError, CheckpointError: If an option, the config, the checkpoint or the images cannot be used.
    """
    check_options(budgets, train_images, seed)
    cfg = read_config(config, cfg_options)
    model = build_model(cfg)
    yield load_weights(model, checkpoint)
    knob = knob_of(model.backbone)
    values = check_values(model.backbone, knob, values or ())
    budgets = sorted(set(budgets or (() if values else BUDGETS)))
    check_datasets(cfg, ('val', ))
    training = training_images(cfg, train_images) if budgets or controls else None
    folder = out or default_folder(config, checkpoint) / 'sweep'
    header = dict(config=config, options={name: str(value) for name, value in (cfg_options or {}).items()},
                  checkpoint=os.path.abspath(checkpoint), modified=int(os.stat(checkpoint).st_mtime), knob=knob.name,
                  train_images=train_images, seed=seed)
    file = SweepFile(folder / 'sweep.json', header)
    prepare(cfg, folder)
    runner = build_runner(cfg)
    runner.model.load_state_dict(model.state_dict())
    loader_with_images(lambda: runner.val_dataloader)
    evaluations = BudgetEvaluations(runner, knob, training, file, seed)

    settings = list(map(evaluations.take, values))
    for budget in budgets:
        settings.append(evaluations.meet(budget))
        yield describe(settings[-1], knob)
    drawn = main_accuracy(evaluations.own(settings[0].value)['metrics'], accuracy)
    rows = [Row(setting.value, setting.budget, evaluations.own(setting.value)) for setting in settings]
    if controls:
        rows = [replace(row, random=evaluations.random(row.value), fixed=evaluations.fixed(setting))
                if evaluations.has_decided(row.own) else row for row, setting in zip(rows, settings)]
    draw(rows, knob.name, drawn, folder / 'sweep.png', static=static, others=others)
    yield table(rows, knob.name, drawn)
    if controls:
        yield verdict(rows, drawn)
    if constant := constant_throughout([row.own['metrics'] for row in rows]):
        yield say_constant(constant)
    yield f'written to {folder}: sweep.json, sweep.png'
