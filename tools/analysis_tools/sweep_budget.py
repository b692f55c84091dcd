"""One checkpoint, many budgets: evaluates it at several open probabilities (AIG) or thresholds (DG).

Draws accuracy over compute, and finds the value for a wanted budget:

    python tools/analysis_tools/sweep_budget.py CONFIG CHECKPOINT --budget 0.7

Every point is an evaluation of the config's validation set by the config's own evaluator; the cost is that of
mmdyn.ComputeMetric. Points go to a JSON file as they are made, and those in it are not made again.
"""
import argparse
import json
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from mmdyn.backbones.dynamic_backbone import DynamicBackbone
from mmdyn.engine import InputError, build_runner, check_datasets, exit_on_bad_input
from mmengine.config import Config
from trained_model import (build_model, check_weights, config_parser, read_config, read_weights,
                           validation_images)

OPEN_PROBABILITIES = (0.0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 0.95, 0.99)
# Shares of the edge scale; a router's logit 0 is at a half.
THRESHOLDS = (0.0, 0.05, 0.1, 0.2, 0.3, 0.4, 0.45, 0.5, 0.55, 0.6, 0.7)
ACCURACIES = ('coco/bbox_mAP', 'coco/segm_mAP', 'pascal_voc/mAP', 'accuracy/top1')
# A budget is met when it is missed by no more than this.
TOLERANCE = 0.01
MAX_REFINEMENTS = 5


class Reference(NamedTuple):
    """A network measured elsewhere, to compare with."""
    name: str
    gmacs: float
    accuracy: float


def reference(text: str) -> Reference:
    """``NAME=GMACS,ACCURACY``; a ValueError, as argparse wants it, for anything else."""
    name, values = text.rsplit('=', 1)
    gmacs, accuracy = map(float, values.split(','))
    return Reference(name, gmacs, accuracy)


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--values', type=float, nargs='+', metavar='VALUE',
                        help='open probabilities in [0, 1], or thresholds in [0, edge_scale) (default: about ten)')
    parser.add_argument('--budget', type=float, metavar='SHARE',
                        help='wanted cost as a share of the dense cost, in (0, 1]')
    parser.add_argument('--accuracy', metavar='NAME', help="the metric to draw (default: the evaluator's main one)")
    parser.add_argument('--static', type=reference, nargs='+', default=[], metavar='NAME=GMACS,ACCURACY',
                        help='other networks to draw, joined by a line: the static ones')
    parser.add_argument('--others', type=reference, nargs='+', default=[], metavar='NAME=GMACS,ACCURACY',
                        help='other networks to draw, each by itself')
    parser.add_argument('--out', type=Path, metavar='FOLDER',
                        help="for sweep.json and sweep.png (default: work_dirs/<the config's name>/sweep)")
    return parser.parse_args()


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


def check_values(backbone: DynamicBackbone, knob: str, values: list[float] | None) -> list[float]:
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


def _has(configs: list[dict], kind: str) -> bool:
    return any(str(config['type']).rpartition('.')[2] == kind for config in configs)


class Sweep:
    """The points made so far, and the file that they are kept in.

    Args:
        path: Of the JSON file.
        header: What all points have in common.
        evaluate: Value -> metrics.

    Raises:
        InputError: If the file holds points of something else.
    """

    def __init__(self, path: Path, header: dict[str, Any], evaluate: Callable[[float], dict[str, float]]) -> None:
        self.path, self.header, self.evaluate = path, header, evaluate
        self.points: list[dict[str, Any]] = []
        if path.is_file():
            content = json.loads(path.read_text())
            self.points = content.pop('points')
            if content != header:
                raise InputError(f'{path} holds the points of something else: expected {header}, found {content}; '
                                 'name another folder with --out, or remove the file')

    def at(self, value: float) -> dict[str, Any]:
        """The point at a value; made and written if it is not there yet."""
        for point in self.points:
            if point['value'] == value:
                return point
        metrics = self.evaluate(value)
        point = dict(value=value, ratio=metrics['compute/ratio'], gmacs=metrics['compute/gmacs_mean'], metrics=metrics)
        self.points = sorted([*self.points, point], key=lambda point: point['value'])
        self.path.parent.mkdir(parents=True, exist_ok=True)
        partial = self.path.with_suffix('.partial')
        partial.write_text(json.dumps(dict(self.header, points=self.points), indent=1) + '\n')
        partial.replace(self.path)
        return point

    def find(self, budget: float) -> dict[str, Any]:
        """The point whose ratio to dense comes closest to a budget, after a search between the points at hand.

        Raises:
            InputError: If no point lies on the other side of the budget.
        """
        for _ in range(MAX_REFINEMENTS):
            closest = min(self.points, key=lambda point: abs(point['ratio'] - budget))
            if abs(closest['ratio'] - budget) <= TOLERANCE:
                break
            # Larger values close more; between two values the ratio moves in steps.
            brackets = [pair for pair in zip(self.points, self.points[1:])
                        if pair[0]['ratio'] >= budget >= pair[1]['ratio']]
            if not brackets:
                ratios = [point['ratio'] for point in self.points]
                raise InputError(f'a budget of {budget:g} cannot be reached with the values tried: '
                                 f'their ratios lie between {min(ratios):.3f} and {max(ratios):.3f}')
            low, high = brackets[0]
            share = (low['ratio'] - budget) / (low['ratio'] - high['ratio'])
            self.at(low['value'] + min(max(share, 0.1), 0.9) * (high['value'] - low['value']))
        return min(self.points, key=lambda point: abs(point['ratio'] - budget))


def main_accuracy(metrics: dict[str, float], wanted: str | None) -> str:
    """The name of the metric to draw."""
    own = [name for name in metrics if not name.startswith('compute/')]
    if wanted is not None and wanted not in own:
        raise InputError(f'--accuracy {wanted}: the evaluator gives {", ".join(own) or "nothing"}')
    if not own:
        raise InputError('expected an evaluator that measures accuracy, the config has none')
    return wanted or next((name for name in ACCURACIES if name in own), own[0])


def draw(points: list[dict[str, Any]], knob: str, accuracy: str, budget: float | None, path: Path, *,
         static: Sequence[Reference] = (), others: Sequence[Reference] = ()) -> None:
    """Draws the curve; over GMACs, beside what it is compared with."""
    import matplotlib
    matplotlib.use('Agg')
    from matplotlib import pyplot as plt
    figure, axes = plt.subplots(figsize=(7, 5), layout='constrained')
    label = f'one checkpoint (numbers: {knob.replace("_", " ")})'
    curve = [(point['gmacs'], point['metrics'][accuracy]) for point in points]
    # Okabe and Ito's colours, which the colour-blind tell apart; and a marker each.
    axes.plot(*zip(*curve), marker='o', color='#0072B2', label=label)
    for point, place in zip(points, curve):
        axes.annotate(f'{point["value"]:.3g}', place, textcoords='offset points', xytext=(4, -10), fontsize=7)
    for references, style, name in ((static, 's--', 'static'), (others, 'D', 'dynamic')):
        if references:
            axes.plot([r.gmacs for r in references], [r.accuracy for r in references], style,
                      color='#D55E00' if references is static else '#009E73', label=name)
        for r in references:
            axes.annotate(r.name, (r.gmacs, r.accuracy), textcoords='offset points', xytext=(4, 6), fontsize=8)
    if budget is not None:
        axes.axvline(budget * points[0]['gmacs'] / points[0]['ratio'], linestyle=':', color='grey')
    axes.set(xlabel='GMACs of the backbone per image', ylabel=accuracy, title='accuracy over compute')
    axes.grid(alpha=0.3)
    axes.margins(x=0.15)  # room for the names
    figure.legend(loc='outside lower center', ncols=3)  # where it hides no point
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        if args.budget is not None and not 0 < args.budget <= 1:
            raise InputError(f'--budget expects a share of the dense cost in (0, 1], got {args.budget:g}')
        cfg = read_config(args)
        model = build_model(cfg)
        weights = read_weights(args.checkpoint)
        print(check_weights(model, weights, args.checkpoint))
        knob = knob_of(model.backbone)
        values = check_values(model.backbone, knob, args.values)
        check_datasets(cfg, ('val', ))
        folder = args.out or Path('work_dirs') / Path(args.config).stem / 'sweep'
        prepare(cfg, folder)
    runner = build_runner(cfg)
    runner.model.load_state_dict(weights)
    with exit_on_bad_input():
        validation_images(lambda: runner.val_dataloader)

    def evaluate(value: float) -> dict[str, float]:
        setattr(runner.model.backbone, knob, value)
        return {name: float(metric) for name, metric in runner.val().items()}

    stat = os.stat(args.checkpoint)
    header = dict(
        config=args.config, checkpoint=os.path.abspath(args.checkpoint), modified=int(stat.st_mtime), knob=knob)
    with exit_on_bad_input():
        sweep = Sweep(folder / 'sweep.json', header, evaluate)
        accuracy = main_accuracy(sweep.at(values[0])['metrics'], args.accuracy)
        for value in values[1:]:
            sweep.at(value)
        found, error = None, None
        if args.budget is not None:
            try:
                found = sweep.find(args.budget)
            except InputError as unreachable:
                error = unreachable
        draw(sweep.points, knob, accuracy, args.budget, folder / 'sweep.png', static=args.static,
             others=args.others)
        print(f'\n{knob:>17}{"ratio":>9}{"GMACs":>10}  {accuracy}')
        for point in sweep.points:
            print(f'{point["value"]:>17.4g}{point["ratio"]:>9.3f}{point["gmacs"]:>10.3f}'
                  f'  {point["metrics"][accuracy]:.4f}')
        print(f'written to {folder}: sweep.json, sweep.png')
        if error is not None:
            raise error
        if found is not None:
            print(f'for a budget of {args.budget:g}: {knob} = {found["value"]:.4g}, which costs {found["ratio"]:.3f} '
                  f'of dense at {accuracy} {found["metrics"][accuracy]:.4f}')


if __name__ == '__main__':
    main()
