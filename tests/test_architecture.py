"""Who may import whom (README, layout), read from the sources."""
import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).resolve().parents[1] / 'mmdyn'
# What each part may import of the others. Everything may import `registry`.
ALLOWED: dict[str, set[str]] = {
    'functional': set(),
    'layers': {'functional'},
    'backbones': {'functional', 'layers', 'doctor', 'stack'},
    'cost': {'functional', 'layers'},
    'losses': {'functional', 'layers'},
    # They offer the engine's hooks as well, for those who import them from here.
    'hooks': {'functional', 'layers', 'backbones', 'cost', 'losses', 'visualization', 'engine'},
    'metrics': {'functional', 'layers', 'backbones', 'cost', 'losses'},
    'visualization': {'functional', 'layers', 'backbones', 'cost', 'losses'},
    'checkpoints': set(),
    'engine': {'checkpoints', 'stack'},
    'converters': {'checkpoints', 'backbones', 'engine'},
    'analysis': {'layers', 'backbones', 'cost', 'losses', 'hooks', 'metrics', 'visualization', 'checkpoints', 'engine'},
    # Outside of the engine: they have to run where the engine's own imports fail.
    'doctor': {'stack'},
    'stack': set(),
    'registry': set(),
}
FOREIGN = {'tools', 'configs', 'tests'}


def imports(path: Path) -> set[str]:
    """Absolute dotted names of all that a file imports, at any depth."""
    package = path.relative_to(PACKAGE.parent).parent.parts
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            base = '.'.join(package[:len(package) - node.level + 1]) if node.level else ''
            module = '.'.join(filter(None, [base, node.module]))
            found |= {f'{module}.{alias.name}' for alias in node.names} | {module}
    return found


@pytest.mark.parametrize('path', sorted(PACKAGE.glob('**/*.py')),
                         ids=lambda path: str(path.relative_to(PACKAGE)))
def test_import_arrows(path):
    part = path.relative_to(PACKAGE).parts[0].removesuffix('.py')
    if part == '__init__':
        return  # Names only; what it offers is imported when it is asked for.
    allowed = ALLOWED[part] | {part, 'registry'}
    for name in imports(path):
        top, *rest = name.split('.')
        assert top not in FOREIGN, f'{path} imports {name}'
        if top == 'mmdyn' and rest:
            assert rest[0] in allowed or rest[0] == '__version__', f'{part} must not import {name}'
        if part in ('functional', 'checkpoints'):
            assert top not in ('mmdet', 'mmcv', 'mmpretrain'), f'{part} must not import {name}'


def test_the_registry_is_import_light():
    """mmengine hides the errors of this import, so there must be nothing in it that can fail."""
    names = {name.split('.')[0] for name in imports(PACKAGE / 'registry.py')}
    assert names <= {'mmengine'}
