"""tools/setup_env.sh with a stand-in for python that records what it is asked to do and can stop at any step."""
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Run = Callable[..., subprocess.CompletedProcess]

# Installs are empty files in $STATE/installed; FAIL_AT names the step that ends as an interruption would.
FAKE_PYTHON = r'''#!/usr/bin/env bash
step() { echo "$1" >>"$STATE/steps"; [[ ${FAIL_AT:-} != "$1" ]] || exit 130; }
has() { for name in "$@"; do [[ -e $STATE/installed/$name ]] || exit 1; done; }
mkdir -p "$STATE/installed"
case "$*" in
    '-m venv '*) mkdir -p "$3/bin"; touch "$3/pyvenv.cfg"; step venv; cp "$0" "$3/bin/python" ;;
    '-m pip --version') [[ $0 == */bin/python ]] || exit 1 ;;
    *'pip --disable-pip-version-check download'*)
        step download
        while [[ $1 != -d ]]; do shift; done
        source=onedl_mmcv-2.3.6
        [[ ${@: -1} != mmcv==2.1.0 ]] || source=mmcv-2.1.0
        mkdir -p "$STATE/$source"
        tar -czf "$2/$source.tar.gz" -C "$STATE" "$source" ;;
    *'pip --disable-pip-version-check install'*)
        case "$*" in
            *.whl) step install-wheel; touch "$STATE/installed/mmcv" ;;
            *mmdet*) step install-all; touch "$STATE/installed/rest" ;;
            *torch===*) step install-torch; touch "$STATE/installed/torch" ;;
            *) step install-build-tools ;;
        esac ;;
    'setup.py bdist_wheel --dist-dir '*)
        ls -d "$HEADER_FOLDER"/*/ >"$STATE/headers" 2>/dev/null
        mkdir -p "$4" "$HEADER_FOLDER"/{whole,half}
        touch "$HEADER_FOLDER/whole/helper.hpp.gch" "$HEADER_FOLDER/half/helper.hpp.partial"
        [[ -x $CXX && $CXX -ef $HEADER_FOLDER/g++ && $HEADER == */mmcv/ops/csrc/common/pytorch_cpp_helper.hpp ]] || exit 1
        echo "$REAL_CXX: $CFLAGS" >"$STATE/compiler"
        step compile
        touch "$4/onedl_mmcv.whl" ;;
    *run_operators*) has torch mmcv ;;
    *Requirement*) has torch mmcv rest ;;
    '-m mmdyn.doctor') step doctor; has torch mmcv rest ;;
    *'import torch'*) echo '2.13.0 cpu' ;;
    *purelib*) echo "$(dirname "$0")" ;;
esac
'''
STEPS = 'venv install-build-tools install-torch download compile install-wheel install-all doctor'.split()


@pytest.fixture
def run(tmp_path: Path, checkout: Path) -> Run:
    """Runs the script with the stand-in as python3.11; gives the process, with the steps it took as `steps`."""
    (tmp_path / 'path').mkdir()
    for name in ('python3.10', 'python3.11'):
        fake = tmp_path / 'path' / name
        fake.write_text(FAKE_PYTHON)
        fake.chmod(0o755)
    steps = tmp_path / 'steps'

    def run(*arguments: str, **variables: str) -> subprocess.CompletedProcess:
        steps.write_text('')
        environment = dict(PATH=f'{tmp_path / "path"}:{os.environ["PATH"]}', STATE=str(tmp_path),
                           MMDYN_VENV=str(tmp_path / 'venv'), HOME=str(tmp_path)) | variables
        process = subprocess.run(['bash', str(checkout / 'tools' / 'setup_env.sh'), *arguments], env=environment,
                                 capture_output=True, text=True, timeout=60)
        process.steps = steps.read_text().split()
        return process

    return run


def test_everything_is_made_once(run: Run, tmp_path: Path) -> None:
    first = run()
    assert first.returncode == 0, first.stderr
    assert first.steps == STEPS
    assert first.stdout == f'{tmp_path}/venv/bin/python\n'
    assert 'about 4 minutes' in first.stderr
    second = run()
    assert second.steps == ['doctor'] and second.stdout == first.stdout and second.stderr == ''


def test_the_older_stack(run: Run) -> None:
    first = run('--stack', 'openmmlab')
    assert first.returncode == 0, first.stderr
    assert first.steps == STEPS and 'mmcv 2.1.0' in first.stderr


@pytest.mark.parametrize('step', STEPS)
def test_an_interrupted_run_is_taken_up(run: Run, step: str) -> None:
    assert run(FAIL_AT=step).returncode != 0
    again = run()
    assert again.returncode == 0, again.stderr
    # Nothing that takes long is done twice.
    for done in ('venv', 'download', 'compile'):
        assert (done in again.steps) == (STEPS.index(done) >= STEPS.index(step))


def test_the_precompiled_header_outlives_an_interruption_if_it_is_whole_and_no_more(run: Run, tmp_path: Path) -> None:
    folder = tmp_path / 'venv' / 'mmcv-build' / 'header'
    assert run(FAIL_AT='compile').returncode != 0
    assert sorted(path.name for path in folder.iterdir()) == ['g++', 'half', 'whole']
    assert run(FAIL_AT='compile').returncode != 0
    assert (tmp_path / 'headers').read_text() == f'{folder}/whole/\n'
    assert run().returncode == 0 and not folder.exists()


def test_the_users_own_compiler_and_flags_are_kept(run: Run, tmp_path: Path) -> None:
    assert run().returncode == 0
    assert (tmp_path / 'compiler').read_text() == 'c++:  -g0 -O2\n'
    (tmp_path / 'installed' / 'mmcv').unlink()
    (tmp_path / 'venv' / 'mmcv-build' / 'wheels-2.3.6-torch-2.13.0-cpu' / 'onedl_mmcv.whl').unlink()
    (tmp_path / 'venv' / 'mmcv-build' / 'wheels-2.3.6-torch-2.13.0-cpu').rmdir()
    assert run(CXX='clang++', CFLAGS='-march=native').returncode == 0
    assert (tmp_path / 'compiler').read_text() == 'clang++: -march=native -g0 -O2\n'


def test_broken_operators_are_built_again(run: Run, tmp_path: Path) -> None:
    run()
    (tmp_path / 'installed' / 'mmcv').unlink()
    again = run()
    assert 'install-wheel' in again.steps and 'compile' not in again.steps
    assert again.returncode == 0


def test_two_runs_do_not_collide(run: Run, tmp_path: Path) -> None:
    (tmp_path / 'venv').mkdir()
    holder = subprocess.Popen(['flock', str(tmp_path / 'venv' / '.lock'), 'sleep', '2'])
    waited = run()
    holder.wait()
    assert 'waiting for another setup' in waited.stderr
    assert waited.returncode == 0 and waited.steps == STEPS


def test_a_given_python_is_only_checked(run: Run, tmp_path: Path) -> None:
    python = str(tmp_path / 'path' / 'python3.11')
    bad = run(MMDYN_PYTHON=python)
    assert bad.returncode == 1 and bad.stdout == '' and 'cannot be used' in bad.stderr
    for name in ('torch', 'mmcv', 'rest'):
        (tmp_path / 'installed' / name).touch()
    good = run(MMDYN_PYTHON=python)
    assert good.returncode == 0 and good.stdout == f'{python}\n' and good.steps == ['doctor']


@pytest.mark.parametrize('arguments, variables, message', [
    (['--fast'], {}, "unknown argument '--fast'"),
    (['--stack', 'mmlab'], {}, "unknown stack 'mmlab': expected onedl or openmmlab"),
    (['--stack'], {}, "unknown stack 'none'"),
    ([], dict(MMDYN_PYTHON='no-such-python'), "expected a python in MMDYN_PYTHON, got 'no-such-python'"),
])
def test_bad_input_is_refused(run: Run, arguments: list[str], variables: dict[str, str], message: str) -> None:
    process = run(*arguments, **variables)
    assert process.returncode != 0 and message in process.stderr and process.stdout == ''


def test_a_folder_with_other_things_is_left_alone(run: Run, tmp_path: Path) -> None:
    (tmp_path / 'venv').mkdir()
    (tmp_path / 'venv' / 'thesis.tex').touch()
    process = run()
    assert process.returncode != 0 and 'set MMDYN_VENV' in process.stderr and 'venv' not in process.steps


def test_a_missing_python_is_named(run: Run, tmp_path: Path) -> None:
    for name in ('python3.11', 'python3', 'python'):
        (tmp_path / 'path' / name).write_text('#!/usr/bin/env bash\nexit 1\n')
        (tmp_path / 'path' / name).chmod(0o755)
    process = run()
    assert process.returncode != 0 and 'expected Python 3.11' in process.stderr
