"""The check of the stack, on made-up stacks and on the one that the tests run on."""
import subprocess
import sys
from pathlib import Path

import pytest

from mmdyn.doctor import check_stack, describe, try_stack
from mmdyn.stack import Stack, find_problems, read_stack, require_stack

ONEDL = {
    'torch': '2.13.0+cpu',
    'torchvision': '0.28.0',
    'onedl-mmengine': '0.10.12',
    'onedl-mmcv': '2.3.6',
    'onedl-mmdetection': '3.5.1',
    'onedl-mmpretrain': '1.3.6',
    'setuptools': '83.0',
}
OPENMMLAB = {
    'torch': '2.1.2',
    'torchvision': '0.16.2',
    'mmengine': '0.10.7',
    'mmcv': '2.1.0',
    'mmdet': '3.3.0',
    'mmpretrain': '1.2.0',
    'setuptools': '80.9.0',
}


def without(versions: dict[str, str], *names: str) -> dict[str, str]:
    return {name: version for name, version in versions.items() if name not in names}


@pytest.mark.parametrize('versions', [ONEDL, OPENMMLAB, without(ONEDL, 'onedl-mmpretrain')])
def test_good_stacks_have_no_problem(versions: dict[str, str]) -> None:
    assert find_problems(Stack(versions)) == []
    require_stack(Stack(versions))


@pytest.mark.parametrize(
    'stack, what, remedy',
    [
        (Stack(without(ONEDL, 'onedl-mmcv')), 'mmcv: expected onedl-mmcv >= 2.3.6 or mmcv >= 2.0.0, found none',
         '--no-build-isolation'),
        (Stack(ONEDL, operators_built=False), 'mmcv: found onedl-mmcv 2.3.6, built without its operators',
         'MMCV_WITH_OPS=1'),
        (Stack(without(OPENMMLAB, 'mmcv') | {'mmcv-lite': '2.1.0'}), 'found mmcv-lite 2.1.0, which has no operators',
         'pip uninstall -y mmcv-lite'),
        (Stack(ONEDL | {'torch': '2.0.1'}), 'torch: expected torch >= 2.1, found torch 2.0.1', 'torch===2.13.0'),
        (Stack(ONEDL | {'onedl-mmengine': '0.10.9'}), 'expected onedl-mmengine >= 0.10.12, found onedl-mmengine 0.10.9',
         'pip install --upgrade onedl-mmengine'),
        (Stack(without(OPENMMLAB, 'mmdet')), 'mmdet: expected onedl-mmdetection >= 3.5.1 or mmdet >= 3.3.0, found none',
         'pip install --upgrade mmdet'),
        (Stack(ONEDL | {'mmcv': '2.1.0'}), 'found onedl-mmcv 2.3.6 and mmcv 2.1.0, which overwrite each other',
         'pip uninstall -y onedl-mmcv mmcv'),
        (Stack(OPENMMLAB | {'mmcv': '2.2.0'}), 'mmdet 3.3.0 stops at import unless mmcv < 2.2.0, found 2.2.0',
         'mmcv==2.1.0'),
        (Stack(without(ONEDL, 'onedl-mmcv') | {'torch': '2.14.0'}), 'needs torch < 2.14', 'torch===2.13.0'),
        (Stack(OPENMMLAB | {'setuptools': '82.0.1'}), 'needs pkg_resources of setuptools < 82, found 82.0.1',
         'setuptools<81'),
        (Stack(without(OPENMMLAB, 'setuptools')), 'needs pkg_resources of setuptools < 82, found none',
         'setuptools<81'),
        (Stack(ONEDL, python=(3, 9)), 'Python: expected >= 3.10, found 3.9', 'setup_env.sh'),
    ])
def test_a_problem_is_named_with_its_remedy(stack: Stack, what: str, remedy: str) -> None:
    named = [problem for problem in find_problems(stack) if what in problem.what]
    assert len(named) == 1 and remedy in named[0].remedy
    with pytest.raises(ImportError) as caught:
        require_stack(stack)
    assert what in str(caught.value) and remedy in str(caught.value)


def test_one_message_names_everything() -> None:
    with pytest.raises(ImportError) as caught:
        require_stack(Stack({'torch': '1.13.1'}))
    for module in ('torch', 'torchvision', 'mmengine', 'mmcv', 'mmdet'):
        assert f'- {module}: expected' in str(caught.value)


def test_what_only_fails_later_does_not_stop_the_import() -> None:
    stack = Stack(OPENMMLAB | {'torch': '2.6.0', 'torchvision': '0.21.0'})
    problem, = find_problems(stack)
    assert 'cannot load its own checkpoints with torch >= 2.6' in problem.what and not problem.fatal
    require_stack(stack)


def test_compiled_operators_are_enough_for_a_newer_torch() -> None:
    assert find_problems(Stack(ONEDL | {'torch': '2.14.0'})) == []


@pytest.mark.parametrize('versions, family', [(ONEDL, 'OneDL'), (OPENMMLAB, 'OpenMMLab'), ({}, 'none'),
                                              (ONEDL | {'mmdet': '3.3.0'}, 'OneDL and OpenMMLab')])
def test_family(versions: dict[str, str], family: str) -> None:
    assert Stack(versions).family() == family


def test_this_environment_is_sound() -> None:
    assert check_stack() == []


def test_table_shows_versions_and_problems() -> None:
    stack = Stack(OPENMMLAB | {'mmcv': '2.2.0'})
    table = describe(stack, find_problems(stack))
    assert '2.2.0 (mmcv)' in table and 'OpenMMLab' in table and 'stops at import' in table
    assert 'No problem found' in describe(read_stack(), [])


def test_an_import_that_fails_is_a_problem(monkeypatch: pytest.MonkeyPatch) -> None:

    def fail() -> None:
        raise ImportError('undefined symbol')

    monkeypatch.setattr('mmdyn.doctor.TRIALS', (('mmcv', fail), ))
    problem, = try_stack(Stack(ONEDL))
    assert problem.what == 'mmcv 2.3.6: ImportError: undefined symbol' and 'pip install' in problem.remedy


@pytest.mark.parametrize('built, exit_code', [(True, 0), (False, 1)])
def test_a_bare_clone_on_the_path_is_seen(tmp_path: Path, built: bool, exit_code: int) -> None:
    (tmp_path / 'mmcv').mkdir()
    (tmp_path / 'mmcv' / '__init__.py').write_text("__version__ = '2.1.0'\n")
    if built:
        (tmp_path / 'mmcv' / '_ext.so').touch()
    # In isolated mode and without site, nothing but the fake mmcv and mmdyn can be found.
    code = (f'import sys; sys.path += [{str(tmp_path)!r}, {str(Path(__file__).resolve().parents[1])!r}]\n'
            'from mmdyn.stack import read_stack\n'
            'stack = read_stack()\n'
            'assert stack.versions == {"mmcv": "2.1.0"}, stack\n'
            'sys.exit(not stack.operators_built)')
    assert subprocess.run([sys.executable, '-I', '-S', '-c', code]).returncode == exit_code


def test_the_cheap_check_imports_nothing_heavy() -> None:
    code = ('import sys; from mmdyn.stack import require_stack; require_stack()\n'
            'heavy = {"torch", "mmcv", "mmdet", "mmengine"} & set(sys.modules)\n'
            'sys.exit(f"imported {heavy}" if heavy else 0)')
    checkout = Path(__file__).resolve().parents[1]
    subprocess.run([sys.executable, '-c', code], cwd=checkout, check=True)
