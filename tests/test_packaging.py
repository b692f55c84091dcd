"""What an installed mmdyn holds: the package, and configs and tools under mmdyn/.mim."""
import os
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

import mmdyn

CHECKOUT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope='module')
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of what is packaged: building in the checkout itself would leave files there."""
    copy = tmp_path_factory.mktemp('packaging') / 'checkout'
    copy.mkdir()
    for name in ('mmdyn', 'configs', 'tools'):
        shutil.copytree(CHECKOUT / name, copy / name, ignore=shutil.ignore_patterns('__pycache__', '.mim'))
    shutil.copy(CHECKOUT / 'setup.py', copy)
    (copy / 'model-index.yml').write_text('Import: []\n')
    (copy / 'tools' / '__pycache__').mkdir()
    (copy / 'tools' / '__pycache__' / 'train.cpython-311.pyc').touch()
    return copy


@pytest.fixture(scope='module')
def wheel_names(tree: Path) -> list[str]:
    """Names of the files in the wheel built from the tree."""
    dist = tree.parent / 'dist'
    pip_wheel = [sys.executable, '-m', 'pip', 'wheel', '--no-deps', '--no-build-isolation', '--no-index']
    built = subprocess.run([*pip_wheel, '-w', str(dist), '.'], cwd=tree, capture_output=True, text=True)
    if 'No module named pip' in built.stderr:
        pytest.skip('this environment has no pip to build a wheel with')
    assert built.returncode == 0, built.stdout + built.stderr
    wheel, = dist.glob('*.whl')
    assert wheel.name == f'mmdyn-{mmdyn.__version__}-py3-none-any.whl'
    with zipfile.ZipFile(wheel) as archive:
        return archive.namelist()


def files_under(folder: Path) -> set[str]:
    return {str(file.relative_to(folder)) for file in folder.rglob('*') if file.is_file() and file.suffix != '.pyc'}


def test_wheel_holds_the_package_configs_and_tools(wheel_names: list[str], tree: Path) -> None:
    in_mim = {name.removeprefix('mmdyn/.mim/') for name in wheel_names if name.startswith('mmdyn/.mim/')}
    expected = {f'{name}/{file}' for name in ('configs', 'tools') for file in files_under(tree / name)}
    assert in_mim == expected | {'model-index.yml'}
    in_package = {name.removeprefix('mmdyn/') for name in wheel_names if name.startswith('mmdyn/')}
    modules = {str(file.relative_to(tree / 'mmdyn')) for file in (tree / 'mmdyn').rglob('*.py')}
    assert modules <= in_package


def test_wheel_holds_no_tests_and_no_caches(wheel_names: list[str]) -> None:
    assert not [name for name in wheel_names if name.startswith('tests/') or '__pycache__' in name]


def test_building_a_wheel_writes_nothing_into_the_package(wheel_names: list[str], tree: Path) -> None:
    assert not (tree / 'mmdyn' / '.mim').exists()


def test_nothing_is_required_outright(tree: Path) -> None:
    command = [sys.executable, 'setup.py', '-q', 'egg_info', '--egg-base', str(tree.parent)]
    subprocess.run(command, cwd=tree, check=True, capture_output=True)
    requirements = (tree.parent / 'mmdyn.egg-info' / 'requires.txt').read_text()
    assert requirements.startswith('\n['), f'expected extras only, got {requirements}'
    for extra in ('onedl', 'openmmlab', 'pretrain', 'dev'):
        assert f'[{extra}]' in requirements


def test_editable_install_links_to_the_checkout(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / 'checkout'
    shutil.copytree(tree, copy)
    # What pip calls for `pip install -e`, short of writing into this environment.
    hook = f'from setuptools.build_meta import build_editable; build_editable({str(tmp_path)!r})'
    built = subprocess.run([sys.executable, '-c', hook], cwd=copy, capture_output=True, text=True)
    assert built.returncode == 0, built.stdout + built.stderr
    for name in ('configs', 'tools', 'model-index.yml'):
        link = copy / 'mmdyn' / '.mim' / name
        assert link.is_symlink() and not os.path.isabs(os.readlink(link))
        assert link.resolve() == (copy / name).resolve()
    (copy / 'configs' / 'new.py').touch()
    assert (copy / 'mmdyn' / '.mim' / 'configs' / 'new.py').exists()


def test_source_distribution_can_be_built_into_a_wheel(tree: Path, tmp_path: Path) -> None:
    copy = tmp_path / 'checkout'
    shutil.copytree(tree, copy)
    command = [sys.executable, 'setup.py', '-q', 'sdist', '-d', str(tmp_path)]
    subprocess.run(command, cwd=copy, check=True, capture_output=True)
    shutil.unpack_archive(tmp_path / f'mmdyn-{mmdyn.__version__}.tar.gz', tmp_path / 'unpacked')
    source = tmp_path / 'unpacked' / f'mmdyn-{mmdyn.__version__}'
    assert files_under(source / 'configs') == files_under(tree / 'configs')
    assert files_under(source / 'tools') == files_under(tree / 'tools')
