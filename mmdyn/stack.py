"""What is installed of the stack that mmdyn stands on, and does it fit together? Told from metadata, in milliseconds.

OneDL's and OpenMMLab's distributions both provide the modules mmengine, mmcv and mmdet, so mmdyn requires neither by
name: this module tells what is missing, too old or incompatible, and which command mends it.
"""
from __future__ import annotations  # an older Python has to get as far as the message that it is too old

import re
import sys
from dataclasses import dataclass
from importlib import import_module, metadata
from importlib.util import find_spec
from pathlib import Path


@dataclass(frozen=True)
class Part:
    """A module of the stack, and the oldest version known to work of each distribution that provides it."""
    module: str
    minimum: dict[str, str]
    optional: bool = False


PARTS = {
    part.module: part
    for part in (
        Part('torch', {'torch': '2.1'}),
        Part('torchvision', {'torchvision': '0.16'}),
        Part('mmengine', {'onedl-mmengine': '0.10.12', 'mmengine': '0.10.7'}),
        Part('mmcv', {'onedl-mmcv': '2.3.6', 'mmcv': '2.0.0', 'mmcv-lite': '2.0.0'}),
        Part('mmdet', {'onedl-mmdetection': '3.5.1', 'mmdet': '3.3.0'}),
        Part('mmpretrain', {'onedl-mmpretrain': '1.3.6', 'mmpretrain': '1.2.0'}, optional=True),
    )
}


@dataclass(frozen=True)
class Stack:
    """What is installed, as far as that can be told without importing it."""
    versions: dict[str, str]  # distribution -> version
    python: tuple[int, int] = sys.version_info[:2]
    operators_built: bool = True  # mmcv's compiled library lies beside its Python files

    def providers(self, module: str) -> list[str]:
        """The installed distributions that provide a module."""
        return [name for name in PARTS[module].minimum if name in self.versions]

    def version(self, module: str) -> str | None:
        providers = self.providers(module)
        return self.versions[providers[0]] if providers else None

    def family(self) -> str:
        """Whose distributions these are: 'OneDL', 'OpenMMLab', 'OneDL and OpenMMLab' or 'none'."""
        names = [name for module in ('mmengine', 'mmcv', 'mmdet', 'mmpretrain') for name in self.providers(module)]
        return ' and '.join(sorted({'OneDL' if name.startswith('onedl-') else 'OpenMMLab' for name in names})) or 'none'


@dataclass(frozen=True)
class Problem:
    """Something wrong with the stack, and the command that mends it."""
    what: str
    remedy: str
    fatal: bool = True  # False: mmdyn can be imported, but something will fail later

    def __str__(self) -> str:
        return f'- {self.what}\n    {self.remedy}'


def _distribution_version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


def read_stack() -> Stack:
    """Reads what is installed from the distributions' metadata, in milliseconds."""
    names = [name for part in PARTS.values() for name in part.minimum]
    found = {name: _distribution_version(name) for name in (*names, 'setuptools')}
    for part in PARTS.values():
        if not any(found[name] for name in part.minimum) and find_spec(part.module):
            # On the path without having been installed, as a clone may be: only the module itself knows.
            found[part.module] = getattr(import_module(part.module), '__version__', None)
    mmcv = find_spec('mmcv')
    folders = (mmcv.submodule_search_locations or []) if mmcv else []
    return Stack(
        versions={name: version for name, version in found.items() if version},
        operators_built=any(file for folder in folders for file in Path(folder).glob('_ext.*')))


def _release(version: str) -> tuple[int, ...]:
    """'2.13.0+cpu' -> (2, 13, 0). The packaging library is not used: it may be among what is missing."""
    found = re.match(r'\d+(\.\d+)*', version)
    return tuple(map(int, found[0].split('.'))) if found else ()


def install_command(module: str, stack: Stack) -> str:
    """The command that installs a module in the family that the user has, OneDL's if there is none yet."""
    if module in ('torch', 'torchvision'):
        # Three equals signs, or pip may take a local build of torch that torchvision cannot load.
        return 'pip install torch===2.13.0 torchvision===0.28.0'
    names = list(PARTS[module].minimum)
    name = names[1] if stack.family() == 'OpenMMLab' else names[0]
    if module == 'mmcv':
        # With build isolation, or from a wheel that pip built and cached that way, mmcv comes without operators.
        version = '==2.1.0' if name == 'mmcv' else ''
        again = '--force-reinstall --no-deps ' if stack.providers('mmcv') else ''
        return ('pip install "setuptools<81" wheel ninja psutil && MMCV_WITH_OPS=1 pip install --no-build-isolation '
                f'--no-cache-dir {again}--no-binary {name} {name}{version}')
    return f'pip install --upgrade {name}'


def _check_part(part: Part, stack: Stack) -> list[Problem]:
    """Missing, provided twice, without operators, or too old."""
    module, providers, remedy = part.module, stack.providers(part.module), install_command(part.module, stack)
    if not providers:
        if part.optional:
            return []
        expected = ' or '.join(f'{name} >= {oldest}' for name, oldest in part.minimum.items() if name != 'mmcv-lite')
        return [Problem(f'{module}: expected {expected}, found none', remedy)]
    fatal, found = not part.optional, ' and '.join(f'{name} {stack.versions[name]}' for name in providers)
    if len(providers) > 1:
        return [
            Problem(f'{module}: expected one distribution, found {found}, which overwrite each other',
                    f'pip uninstall -y {" ".join(providers)} && {remedy}', fatal)
        ]
    name, = providers
    if name == 'mmcv-lite':
        return [Problem(f'mmcv: found {found}, which has no operators', f'pip uninstall -y mmcv-lite && {remedy}')]
    if _release(stack.versions[name]) < _release(part.minimum[name]):
        return [Problem(f'{module}: expected {name} >= {part.minimum[name]}, found {found}', remedy, fatal)]
    if module == 'mmcv' and not stack.operators_built:
        return [Problem(f'mmcv: found {found}, built without its operators (no mmcv._ext)', remedy)]
    return []


def _check_pairs(stack: Stack) -> list[Problem]:
    """Versions that are fine alone and not together."""
    problems = []
    torch, mmcv = stack.version('torch') or '', stack.version('mmcv') or ''
    if _release(torch) >= (2, 14) and not (mmcv and stack.operators_built):
        what = f'torch: mmcv has to be compiled and needs torch < 2.14 for it (C++17), found {torch}'
        problems.append(Problem(what, install_command('torch', stack)))
    mmdet = stack.versions.get('mmdet', '')
    if mmdet and _release(mmdet) <= (3, 3, 0) and _release(mmcv) >= (2, 2):
        what = f'mmcv: mmdet {mmdet} stops at import unless mmcv < 2.2.0, found {mmcv}'
        problems.append(Problem(what, install_command('mmcv', stack)))
    mmengine = stack.versions.get('mmengine', '')
    if mmengine and _release(mmengine) <= (0, 10, 7):
        setuptools = stack.versions.get('setuptools', '')
        if not setuptools or _release(setuptools) >= (82, ):
            found = setuptools or 'none'
            what = f'setuptools: mmengine {mmengine} needs pkg_resources of setuptools < 82, found {found}'
            problems.append(Problem(what, 'pip install "setuptools<81"'))
        if _release(torch) >= (2, 6):
            what = f'mmengine: {mmengine} cannot load its own checkpoints with torch >= 2.6, found torch {torch}'
            problems.append(Problem(what, 'pip uninstall -y mmengine && pip install onedl-mmengine', fatal=False))
    return problems


def find_problems(stack: Stack) -> list[Problem]:
    """What is wrong with a stack, judged by versions alone."""
    problems = []
    if stack.python < (3, 10):
        what = 'Python: expected >= 3.10, found {}.{}'.format(*stack.python)
        problems.append(Problem(what, 'bash tools/setup_env.sh'))
    for part in PARTS.values():
        problems += _check_part(part, stack)
    return problems + _check_pairs(stack)


def require_stack(stack: Stack | None = None) -> None:
    """Checks, before anything heavy is imported, that the stack can carry mmdyn.

    Args:
        stack: What is installed; read from the environment by default.

    Raises:
        ImportError: Names every part that is missing, too old or incompatible, and the command that mends it.
    """
    problems = [problem for problem in find_problems(stack or read_stack()) if problem.fatal]
    if problems:
        raise ImportError('\n'.join([
            'mmdyn cannot work with what is installed:', *map(str, problems),
            '`python -m mmdyn.doctor` shows the whole stack; `bash tools/setup_env.sh`, in a checkout, makes a new one.'
        ]))
