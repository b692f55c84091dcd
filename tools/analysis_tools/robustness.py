"""Tells how robust a dynamic model is beside a static one, and how much its routes change.

A classifier of MMPretrain under FGSM and PGD, each with and without JPEG recompression:

    python tools/analysis_tools/robustness.py CONFIG CHECKPOINT --static CONFIG CHECKPOINT --epsilons 1 2 4 8

A detector of MMDetection on corrupted images:

    python tools/analysis_tools/robustness.py CONFIG CHECKPOINT --corruptions gaussian_noise fog --severities 1 3 5

Attacks are white-box: each model is attacked with its own gradients. Prints a table, and writes it as robustness.md and
as a figure, robustness.png.
"""
import argparse
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Optional, Union

import adversarial
import corrupted
import torch
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from mmdyn.engine import InputError, check_datasets, check_output_folder, exit_on_bad_input
from mmengine.config import Config
from mmengine.registry import MODELS
from mmengine.runner import Runner
from torch import Tensor, nn
from trained_model import build_model, check_weights, config_parser, read_config, read_weights, validation_images

COLOURS = ('#0072B2', '#D55E00', '#009E73', '#CC79A7')
HEADINGS = dict(model='model', attack='attack', corruption='corruption', epsilon='epsilon x 255', severity='severity',
                jpeg='JPEG', accuracy='accuracy %', ap='AP', ratio='of dense %', changed='decisions changed %',
                rerouted='images rerouted %')

Rows = Sequence[Union[adversarial.Row, corrupted.CorruptedRow]]


def parse_args() -> argparse.Namespace:
    parser = config_parser(__doc__)
    parser.add_argument('checkpoint', help='checkpoint file')
    parser.add_argument('--static', nargs=2, metavar=('CONFIG', 'CHECKPOINT'), help='a static model to set beside it')
    parser.add_argument('--out-dir', type=Path, metavar='FOLDER',
                        help="default: work_dirs/<the config's name>/robustness")
    parser.add_argument('--device', default='cuda' if torch.cuda.is_available() else 'cpu', help='default: %(default)s')
    attack = parser.add_argument_group('classifiers')
    attack.add_argument('--attacks', nargs='+', choices=adversarial.ATTACKS, default=list(adversarial.ATTACKS))
    attack.add_argument('--epsilons', nargs='+', type=float, default=[1, 2, 4, 8], metavar='E',
                        help='largest change of a pixel, of 255 (default: 1 2 4 8)')
    attack.add_argument('--num-images', type=int, metavar='N', help='only N images, spread evenly over the validation '
                        'set (default: all)')
    attack.add_argument('--steps', type=int, default=10, help='of PGD (default: %(default)s)')
    attack.add_argument('--jpeg', type=int, default=75, metavar='QUALITY', help='0: none (default: %(default)s)')
    corruption = parser.add_argument_group('detectors')
    corruption.add_argument('--corruptions', nargs='+', default=list(corrupted.DEFAULT_CORRUPTIONS), metavar='NAME',
                            help='of the package imagecorruptions (default: %(default)s)')
    corruption.add_argument('--severities', nargs='+', type=int, default=[1, 3, 5], metavar='S', help='default: 1 3 5')
    return parser.parse_args()


def read_static(args: argparse.Namespace) -> tuple[Config, str]:
    """Config and checkpoint of ``--static``; ``--cfg-options`` hold for it as well."""
    path, checkpoint = args.static
    return read_config(argparse.Namespace(config=path, cfg_options=args.cfg_options)), checkpoint


def check_args(args: argparse.Namespace) -> None:
    if any(not 0 < epsilon <= 255 for epsilon in args.epsilons):
        raise InputError(f'--epsilons expects numbers above 0 and at most 255, got {args.epsilons}')
    if any(severity not in range(1, 6) for severity in args.severities):
        raise InputError(f'--severities expects numbers from 1 to 5, got {args.severities}')
    if not 0 <= args.jpeg <= 100:
        raise InputError(f'--jpeg expects a quality from 1 to 100, or 0, got {args.jpeg}')
    for name in ('steps', 'num_images'):
        value = getattr(args, name)
        if value is not None and value < 1:
            raise InputError(f'--{name.replace("_", "-")} expects a number of at least 1, got {value}')


def load_model(model: nn.Module, checkpoint: str) -> nn.Module:
    """The model with the checkpoint's weights, in evaluation mode."""
    weights = read_weights(checkpoint)
    check_weights(model, weights, checkpoint)
    model.load_state_dict(weights, strict=False)
    return model.eval()


def read_batches(cfg: Config, num_images: Optional[int]) -> list[tuple[Tensor, Tensor]]:
    """Pixels in [0, 1] and labels of the validation set, batch by batch.

    Images are taken at even distances from the whole set: folders of classes come one after the other.
    """
    settings = dict(cfg.val_dataloader)
    loader = validation_images(lambda: Runner.build_dataloader(settings, seed=0))
    images = len(loader.dataset)
    if num_images is not None and num_images < images:
        settings['dataset'] = dict(settings['dataset'], indices=[n * images // num_images for n in range(num_images)])
        loader = Runner.build_dataloader(settings, seed=0)
    batches = []
    for data in loader:
        if not all('gt_label' in sample for sample in data['data_samples']):
            raise InputError('expected a validation set with labels, as MMPretrain packs them, got images without')
        pixels = data['inputs'] if isinstance(data['inputs'], Tensor) else torch.stack(data['inputs'])
        batches.append((pixels.float() / 255, torch.cat([sample.gt_label for sample in data['data_samples']])))
    return batches


def study_classifiers(args: argparse.Namespace, cfg: Config) -> list[adversarial.Row]:
    subjects = [('dynamic', load_model(build_model(cfg), args.checkpoint))]
    if args.static:
        static, checkpoint = read_static(args)
        subjects.insert(0, ('static', load_model(MODELS.build(dict(static.model, init_cfg=None)), checkpoint)))
    check_datasets(cfg, ('val', ))
    batches = [(pixels.to(args.device), labels.to(args.device))
               for pixels, labels in read_batches(cfg, args.num_images)]
    check_output_folder(str(out_folder(args)))
    rows = []
    for name, model in subjects:
        torch.manual_seed(0)  # PGD starts at random
        for row in adversarial.study(adversarial.Subject(name, model.to(args.device)), batches, args.attacks,
                                     args.epsilons, steps=args.steps, jpeg=args.jpeg or None):
            print(table([row]).splitlines()[-1], flush=True)
            rows.append(row)
    return rows


def study_detectors(args: argparse.Namespace, cfg: Config) -> list[corrupted.CorruptedRow]:
    if args.num_images is not None:
        raise InputError("--num-images is for classifiers: COCO's metric counts objects of images left out as missed")
    unknown = set(args.corruptions) - set(corrupted.corruption_names())
    if unknown:
        raise InputError(f'--corruptions: unknown {", ".join(sorted(unknown))}; there are '
                         f'{", ".join(corrupted.corruption_names())}')
    build_model(cfg)  # refuses a static backbone
    check_datasets(cfg, ('test', ))
    subjects = [('dynamic', cfg, args.checkpoint, True)]
    if args.static:
        subjects.insert(0, ('static', *read_static(args), False))
    check_output_folder(str(out_folder(args)))
    rows = []
    for name, own, checkpoint, dynamic in subjects:
        own.work_dir = str(out_folder(args) / name)
        rows += corrupted.study(name, own, checkpoint, args.corruptions, args.severities, dynamic=dynamic)
    return rows


def out_folder(args: argparse.Namespace) -> Path:
    return args.out_dir or Path('work_dirs') / Path(args.config).stem / 'robustness'


def table(rows: Rows) -> str:
    """In Markdown; a dash where a static model has nothing to tell."""
    columns = list(asdict(rows[0]))
    lines = ['| ' + ' | '.join(HEADINGS[column] for column in columns) + ' |', '|' + '---|' * len(columns)]
    lines += ['| ' + ' | '.join(_cell(column, getattr(row, column)) for column in columns) + ' |' for row in rows]
    return '\n'.join(lines)


def _cell(column: str, value: Union[None, bool, float, str]) -> str:
    if value is None:
        return '-'
    if column in ('accuracy', 'ratio', 'changed', 'rerouted'):
        return f'{100 * value:.1f}'
    if isinstance(value, bool):
        return 'yes' if value else 'no'
    return f'{value:.3f}' if column == 'ap' else f'{value:g}' if isinstance(value, (int, float)) else value


def draw(rows: Rows) -> Figure:
    """Accuracy, compute and changed routes against the strength of each attack or corruption; a row has one scale."""
    attacked = isinstance(rows[0], adversarial.Row)
    kind, strength, score = ('attack', 'epsilon', 'accuracy') if attacked else ('corruption', 'severity', 'ap')
    names = {score: 'accuracy' if attacked else 'AP', 'ratio': 'dynamic / dense cost', 'changed': 'decisions changed'}
    kinds = [own for own in dict.fromkeys(getattr(row, kind) for row in rows) if own != 'none']
    strengths = sorted({getattr(row, strength) for row in rows})
    figure = Figure(figsize=(max(2.6 * len(kinds), 5), 7), layout='constrained')
    FigureCanvasAgg(figure)
    panels = figure.subplots(len(names), len(kinds), sharex=True, sharey='row', squeeze=False)
    for axes_of_row, value in zip(panels, names):
        for axes, own in zip(axes_of_row, kinds):
            _draw_lines(axes, [row for row in rows if getattr(row, kind) in (own, 'none')], strength, value)
        # Only now: a limit that is set ends the scaling, which the panels of a row share.
        axes_of_row[0].set(ylabel=names[value], ylim=(0, 1.03 if value == 'ratio' else None))
    for own, top, bottom in zip(kinds, panels[0], panels[-1]):
        top.set_title(own.replace('_', ' '), fontsize=10)
        bottom.set(xlabel='epsilon x 255' if attacked else 'severity', xticks=strengths)
    panels[0, 0].legend(frameon=False, fontsize=8)
    return figure


def _draw_lines(axes: Axes, rows: Rows, strength: str, value: str) -> None:
    """A line for each model, and a dashed one for it on recompressed images."""
    for model, colour in zip(dict.fromkeys(row.model for row in rows), COLOURS):
        for jpeg in (False, True):
            points = [(getattr(row, strength), getattr(row, value)) for row in rows
                      if row.model == model and getattr(row, 'jpeg', False) == jpeg and getattr(row, value) is not None]
            if points:
                axes.plot(*zip(*points), '--s' if jpeg else '-o', color=colour, ms=4,
                          label=f'{model}, JPEG' if jpeg else model)


def main() -> None:
    args = parse_args()
    with exit_on_bad_input():
        check_args(args)
        cfg = read_config(args)
        rows = (study_detectors if cfg.get('default_scope', 'mmdet') == 'mmdet' else study_classifiers)(args, cfg)
    folder = out_folder(args)
    (folder / 'robustness.md').write_text(table(rows) + '\n', encoding='utf-8')
    draw(rows).savefig(folder / 'robustness.png', dpi=110)
    print(f'\n{table(rows)}\n\ntable: {folder / "robustness.md"}\nfigure: {folder / "robustness.png"}')


if __name__ == '__main__':
    main()
