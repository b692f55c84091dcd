"""Who may import whom (tools/README.md, layout), read from the sources."""
import ast
import re
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
PACKAGE = ROOT / 'mmdyn'
# What each part may import of the others. Everything may import `registry`.
ALLOWED: dict[str, set[str]] = {
    'functional': set(),
    'layers': {'functional'},
    'backbones': {'functional', 'layers', 'stack'},
    'cost': {'functional', 'layers'},
    'losses': {'functional', 'layers'},
    # They offer the engine's hooks as well, for those who import them from here.
    'hooks': {'layers', 'backbones', 'cost', 'losses', 'visualization', 'engine'},
    'metrics': {'layers', 'cost'},
    'visualization': {'backbones', 'cost'},
    'checkpoints': set(),
    'engine': {'checkpoints', 'stack'},
    'converters': {'checkpoints', 'backbones', 'engine'},
    'deployment': {'functional', 'layers', 'backbones', 'cost', 'engine'},
    'analysis': {'functional', 'layers', 'backbones', 'cost', 'metrics', 'visualization', 'checkpoints', 'engine'},
    'demo': {'engine'},
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
            assert top not in ('mmdet', 'mmcv', 'mmpretrain', 'mmengine'), f'{part} must not import {name}'
        if part == 'functional':  # tensors in, tensors out
            assert not name.startswith('torch.nn') or name.startswith('torch.nn.functional'), name


def test_the_registry_is_import_light():
    """mmengine hides the errors of this import, so there must be nothing in it that can fail."""
    names = {name.split('.')[0] for name in imports(PACKAGE / 'registry.py')}
    assert names <= {'mmengine', *sys.stdlib_module_names}


@pytest.mark.parametrize('part', ['engine', 'checkpoints'])
def test_what_serves_any_training_does_not_speak_of_decisions(part):
    for path in (PACKAGE / part).glob('*.py'):
        found = re.search(r'\b(gate|router|decision|open rate)s?\b', path.read_text())
        assert not found, f'{path} speaks of a {found[0]}'


def test_nothing_puts_folders_on_the_path():
    """What is needed in two places is in the package."""
    words = 'sys.path' + '.insert'  # not in one piece, or it would be found here
    files = [ROOT / 'setup.py', *(path for folder in ('mmdyn', 'tools', 'tests', 'configs')
                                  for path in (ROOT / folder).rglob('*') if path.suffix in ('.py', '.sh', '.md'))]
    assert len(files) > 200
    assert not [path for path in files if words in path.read_text()]


# One script is to be read and copied by those who have nothing of this project installed.
SCRIPTS = sorted(path for path in (ROOT / 'tools').rglob('*.py') if path.name != 'demo_onnx.py')


@pytest.mark.parametrize('path', SCRIPTS, ids=lambda path: path.name)
def test_scripts_are_arguments_and_a_call(path):
    _, *statements = ast.parse(path.read_text()).body  # the docstring is the command's help
    tree = ast.Module(statements, [])
    assert not [node.name for node in ast.walk(tree) if isinstance(node, ast.ClassDef)]
    code = [line for line in ast.unparse(tree).splitlines() if line.strip()]
    assert len(code) <= 40, f'{len(code)} lines of code in {path}, each statement on one'
