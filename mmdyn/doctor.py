"""Does the stack that mmdyn stands on work? `python -m mmdyn.doctor` prints a table and exits with 1 on a problem."""
from __future__ import annotations  # as in mmdyn/stack.py

import sys
from collections.abc import Callable
from importlib import import_module

from mmdyn.stack import PARTS, Problem, Stack, find_problems, install_command, read_stack


def run_operators() -> None:
    """Runs three of mmcv's compiled operators on the CPU; raises what they raise, or if a result is wrong."""
    import torch
    from mmcv.ops import deform_conv2d, nms, roi_align
    image = torch.ones(1, 1, 8, 8)
    box = torch.tensor([[0., 0., 4., 4.]])
    _, kept = nms(torch.cat([box, box]), torch.tensor([0.9, 0.8]), iou_threshold=0.5)
    pooled = roi_align(image, torch.cat([torch.zeros(1, 1), box], dim=1), (2, 2))
    convolved = deform_conv2d(image, torch.zeros(1, 18, 6, 6), torch.ones(1, 1, 3, 3))
    if kept.tolist() != [0] or not pooled.eq(1).all() or not convolved.eq(9).all():
        raise RuntimeError(f'expected [0], 1 and 9 from nms, roi_align and deform_conv2d, '
                           f'got {kept.tolist()}, {pooled} and {convolved}')


def run_cuda_operators() -> None:
    """Raises if torch sees a GPU that mmcv's operators were not compiled for."""
    import torch
    from mmcv.ops import get_compiling_cuda_version
    if torch.cuda.is_available() and get_compiling_cuda_version() == 'not available':
        raise RuntimeError('torch sees a GPU, and the operators were compiled for the CPU alone')


# What is tried, in this order: the module, and the trial. Each stands on those before it.
TRIALS: tuple[tuple[str, Callable[[], object]], ...] = (
    ('torch', lambda: import_module('torch')),
    ('torchvision', lambda: import_module('torchvision')),
    ('mmengine', lambda: import_module('mmengine.runner')),
    ('mmcv', lambda: import_module('mmcv')),
    ('mmcv', run_operators),
    ('mmcv', run_cuda_operators),
    ('mmdet', lambda: import_module('mmdet.models')),
    ('mmpretrain', lambda: import_module('mmpretrain')),
)


def try_stack(stack: Stack) -> list[Problem]:
    """Imports and runs what is installed, which takes seconds, and gives the first thing that fails."""
    for module, trial in TRIALS:
        if stack.providers(module):
            try:
                trial()
            except Exception as error:  # whatever a foreign module raises is the finding
                what = f'{module} {stack.version(module)}: {type(error).__name__}: {error}'
                return [Problem(what, install_command(module, stack))]
    return []


def check_stack(stack: Stack | None = None) -> list[Problem]:
    """Everything that is wrong with the installed stack, which is tried out only when its versions look right."""
    stack = stack or read_stack()
    problems = find_problems(stack)
    return problems if any(problem.fatal for problem in problems) else problems + try_stack(stack)


def describe_cuda() -> str:
    try:
        import torch
    except Exception:  # reported as a problem of torch
        return 'unknown'
    return torch.cuda.get_device_name() if torch.cuda.is_available() else 'not seen'


def describe(stack: Stack, problems: list[Problem]) -> str:
    """The table of what is installed, then each problem with its remedy."""
    rows = {'Python': '.'.join(map(str, sys.version_info[:3]))}
    for module in PARTS:
        rows[module] = ', '.join(f'{stack.versions[name]} ({name})' for name in stack.providers(module)) or 'none'
    rows['mmcv.ops'] = 'none' if not stack.operators_built else 'see below' if problems else 'load and run'
    rows['family'] = stack.family()
    rows['CUDA'] = describe_cuda()
    table = [f'{name:<12} {value}' for name, value in rows.items()]
    return '\n'.join([*table, '', *(map(str, problems) if problems else ['No problem found.'])])


def main() -> int:
    stack = read_stack()
    problems = check_stack(stack)
    print(describe(stack, problems))
    return 1 if problems else 0


if __name__ == '__main__':
    sys.exit(main())
