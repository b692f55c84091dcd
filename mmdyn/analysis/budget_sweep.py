"""One checkpoint at many budgets: its accuracy at several open probabilities (AIG) or thresholds (DG)."""
import os
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from mmengine.config import Config

from ..backbones.dynamic_backbone import DynamicBackbone
from ..checkpoints import read_state_dict
from ..engine import InputError, build_runner, check_datasets
from .budget_figure import Reference, draw
from .budget_points import Sweep
from .trained_model import build_model, check_weights, default_folder, read_config, validation_images

OPEN_PROBABILITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# Shares of the edge scale; a router's logit 0 is at a half.
THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
ACCURACIES = ('coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'accuracy/top1')


def knob_of(backbone: DynamicBackbone) -> str:
    """The attribute that trades accuracy for compute.

    Raises:
        InputError: If the backbone has none, or does not use it.
    """
    if not list(backbone.deciders()):
        raise InputError(f'expected a backbone with gates or wired stages, this {type(backbone).__name__} has none')
    if not hasattr(backbone, 'open_probability'):
        return 'threshold'
    policies = {gate.policy for gate in backbone.deciders()}
    if policies != {'argmax'}:
        raise InputError(f"open probabilities matter under the policy 'argmax', the config has {sorted(policies)}: "
                         'give --cfg-options model.backbone.policy=argmax')
    return 'open_probability'


def check_values(backbone: DynamicBackbone, knob: str, values: Sequence[float] | None) -> list[float]:
    """The values to evaluate at, in ascending order."""
    if values is None:
        values = OPEN_PROBABILITIES if knob == 'open_probability' else [t * backbone.edge_scale for t in THRESHOLDS]
    for value in values:
        try:
            setattr(backbone, knob, value)
        except ValueError as error:
            raise InputError(f'--values: {error}') from None
    return sorted(set(values))


def prepare(cfg: Config, folder: Path) -> None:
    """Leaves of a config what an evaluation needs, and adds what counts."""
    for name in ('train_dataloader', 'train_cfg', 'optim_wrapper', 'test_dataloader', 'test_cfg', 'test_evaluator'):
        cfg[name] = None
    cfg.param_scheduler, cfg.auto_scale_lr = None, None
    cfg.load_from, cfg.resume, cfg.launcher, cfg.work_dir = None, False, 'none', str(folder)
    cfg.model.backbone.init_cfg = None
    evaluators = cfg.val_evaluator if isinstance(cfg.val_evaluator, (list, tuple)) else [cfg.val_evaluator]
    if not _has(evaluators, 'ComputeMetric'):
        evaluators = [*evaluators, dict(type='mmdyn.ComputeMetric')]
    cfg.val_evaluator = evaluators
    hooks = cfg.get('custom_hooks') or []
    if not _has(hooks, 'DynamicModelHook'):
        cfg.custom_hooks = [*hooks, dict(type='mmdyn.DynamicModelHook')]


def _has(configs: Sequence[dict], kind: str) -> bool:
    return any(str(config['type']).rpartition('.')[2] == kind for config in configs)


def main_accuracy(metrics: dict[str, float], wanted: str | None) -> str:
    """The name of the metric to draw."""
    own = [name for name in metrics if not name.startswith('compute/')]
    if wanted is not None and wanted not in own:
        raise InputError(f'--accuracy {wanted}: the evaluator gives {", ".join(own) or "nothing"}')
    if not own:
        raise InputError('expected an evaluator that measures accuracy, the config has none')
    return wanted or next((name for name in ACCURACIES if name in own), own[0])


def describe(points: Sequence[dict[str, Any]], knob: str, accuracy: str) -> str:
    """The points as a table."""
    rows = [f'{point["value"]:>17.4g}{point["ratio"]:>9.3f}{point["gmacs"]:>10.3f}  {point["metrics"][accuracy]:.4f}'
            for point in points]
    return '\n'.join([f'\n{knob:>17}{"ratio":>9}{"GMACs":>10}  {accuracy}', *rows])


def sweep_budget(config: str, checkpoint: str, *, values: Sequence[float] | None, budget: float | None,
                 accuracy: str | None, static: Sequence[Reference], others: Sequence[Reference], out: Path | None,
                 cfg_options: Mapping[str, Any] | None) -> Iterator[str]:
    """What the options of tools/analysis_tools/sweep_budget.py ask for, piece by piece as it is known.

    Raises:
        InputError, CheckpointError: If an option, the config, the checkpoint or the images cannot be used; if the budget
            cannot be reached, after the table and the figure of the points that can.
    """
    if budget is not None and not 0 < budget <= 1:
        raise InputError(f'--budget expects a share of the dense cost in (0, 1], got {budget:g}')
    cfg = read_config(config, cfg_options)
    model = build_model(cfg)
    weights = read_state_dict(checkpoint)
    yield check_weights(model, weights, checkpoint)
    knob = knob_of(model.backbone)
    tried = check_values(model.backbone, knob, values)
    check_datasets(cfg, ('val', ))
    folder = out or default_folder(config, checkpoint) / 'sweep'
    prepare(cfg, folder)
    runner = build_runner(cfg)
    runner.model.load_state_dict(weights)
    validation_images(lambda: runner.val_dataloader)

    def evaluate(value: float) -> dict[str, float]:
        setattr(runner.model.backbone, knob, value)
        return {name: float(metric) for name, metric in runner.val().items()}

    header = dict(config=config, checkpoint=os.path.abspath(checkpoint), modified=int(os.stat(checkpoint).st_mtime),
                  knob=knob)
    sweep = Sweep(folder / 'sweep.json', header, evaluate)
    accuracy = main_accuracy(sweep.at(tried[0])['metrics'], accuracy)
    for value in tried[1:]:
        sweep.at(value)
    found, unreachable = None, None
    if budget is not None:
        try:
            found = sweep.find(budget)
        except InputError as error:
            unreachable = error
    draw(sweep.points, knob, accuracy, budget, folder / 'sweep.png', static=static, others=others)
    yield describe(sweep.points, knob, accuracy)
    yield f'written to {folder}: sweep.json, sweep.png'
    if unreachable is not None:
        raise unreachable
    if found is not None:
        yield (f'for a budget of {budget:g}: {knob} = {found["value"]:.4g}, which costs {found["ratio"]:.3f} of dense at '
               f'{accuracy} {found["metrics"][accuracy]:.4f}')
