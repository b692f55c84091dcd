"""Packaging of mmdyn."""
import os
import re
import shutil
from pathlib import Path

from setuptools import find_packages, setup
from setuptools.command.build_py import build_py
from setuptools.command.develop import develop
from setuptools.command.sdist import sdist

ROOT = Path(__file__).resolve().parent
# What `mim` and other tools of the ecosystem look for under <package>/.mim.
MIM_ENTRIES = ('configs', 'tools', 'model-index.yml')

# Nothing is required outright: OneDL's and OpenMMLab's distributions provide the same modules (mmcv, mmdet, mmengine),
# so a requirement on the one would overwrite the files of the other. torch is left out too: the newest one that pip
# finds is often newer than what mmcv compiles against. `python -m mmdyn.doctor` says what is missing.
EXTRAS = {
    # onedl-mmcv is compiled on installation; with pip's build isolation it silently comes without its operators, so
    # torch must be there first and pip needs --no-build-isolation (tools/setup_env.sh does all of it).
    'onedl': ['onedl-mmengine>=0.10.12', 'onedl-mmcv>=2.3.6', 'onedl-mmdetection>=3.5.1'],
    # mmdet 3.3.0 refuses mmcv 2.2.0; mmengine 0.10.7 needs pkg_resources, which setuptools 82 dropped.
    'openmmlab': ['mmengine>=0.10.7', 'mmcv>=2.0.0,<2.2.0', 'mmdet>=3.3.0', 'setuptools<82'],
    # An extra cannot depend on the family, so this names the one that is maintained. Neither family's mmpretrain pulls
    # in mmcv or mmengine; beside OpenMMLab's mmdet use `pip install mmpretrain` instead.
    'pretrain': ['onedl-mmpretrain>=1.3.6'],
    # What publish_model.py writes by default; the tools read such checkpoints.
    'publish': ['safetensors'],
    # What tools/analysis_tools/robustness.py attacks classifiers with.
    'analysis': ['torchattacks>=3.5'],
    # tools/deployment; needs torch >= 2.6
    'deploy': ['onnx', 'onnxscript', 'onnxruntime'],
    # scikit-learn: two of MMDetection's own heads that the tests train import it. grad-cam puts a hook on a stage.
    'dev': ['pytest', 'pytest-xdist', 'hypothesis', 'safetensors', 'scikit-learn', 'grad-cam', 'ruff', 'mypy'],
}


def read_version() -> str:
    """The version in mmdyn/__init__.py, read as text: importing it would need the package's dependencies."""
    text = (ROOT / 'mmdyn' / '__init__.py').read_text(encoding='utf-8')
    found = re.search(r"^__version__ = '([^']+)'$", text, re.MULTILINE)
    if found is None:
        raise RuntimeError("expected a line __version__ = '...' in mmdyn/__init__.py, found none")
    return found[1]


def mim_sources() -> list[Path]:
    return [ROOT / name for name in MIM_ENTRIES if (ROOT / name).exists()]


def link_mim(package: Path) -> None:
    """Makes <package>/.mim of symbolic links, so that an editable install always shows the checkout's own files."""
    folder = package / '.mim'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    for source in mim_sources():
        (folder / source.name).symlink_to(os.path.relpath(source, folder))


def copy_mim(package: Path) -> None:
    """Copies what belongs to <package>/.mim, dropping what an earlier build left there."""
    folder = package / '.mim'
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    for source in mim_sources():
        if source.is_dir():
            shutil.copytree(source, folder / source.name, ignore=shutil.ignore_patterns('__pycache__', '*.py[cod]'))
        else:
            shutil.copy2(source, folder)


class BuildPy(build_py):
    """Wheels and `pip install -e` both pass here; only the latter may write into the checkout."""

    def run(self) -> None:
        super().run()
        if getattr(self, 'editable_mode', False):
            link_mim(ROOT / 'mmdyn')
        else:
            copy_mim(Path(self.build_lib) / 'mmdyn')


class Develop(develop):
    """The editable install of pip versions that still call `setup.py develop`, which skips build_py."""

    def run(self) -> None:
        link_mim(ROOT / 'mmdyn')
        super().run()


class Sdist(sdist):
    """A source distribution that wheels with .mim can be built from."""

    def make_distribution(self) -> None:
        for source in mim_sources():
            files = source.rglob('*') if source.is_dir() else [source]
            self.filelist.extend(
                str(file.relative_to(ROOT)) for file in files if file.is_file() and '__pycache__' not in file.parts)
        super().make_distribution()


README = ROOT / 'README.md'

setup(
    name='mmdyn',
    version=read_version(),
    description='Dynamic backbones for MMDetection: ConvNet-AIG and DG-Net',
    long_description=README.read_text(encoding='utf-8') if README.exists() else '',
    long_description_content_type='text/markdown',
    license='Apache-2.0',
    python_requires='>=3.10',
    packages=find_packages(include=['mmdyn', 'mmdyn.*']),
    extras_require=EXTRAS,
    cmdclass=dict(build_py=BuildPy, develop=Develop, sdist=Sdist),
    zip_safe=False,
)
