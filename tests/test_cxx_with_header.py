"""tools/cxx_with_header.sh: objects are those of the compiler, the header is read precompiled where that is possible."""
import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

Compile = Callable[..., subprocess.CompletedProcess]
# A compiler that notes its arguments, and can do all but read headers precompiled.
FAKE = '''#!/usr/bin/env bash
echo "$*" >>"$CALLS"
[[ $* != *c++-header* ]] || { echo 'no headers here' >&2; exit 1; }
while (($#)); do [[ $1 != -o ]] || touch "$2"; shift; done
'''


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A header and a file that counts on it to be read once."""
    (tmp_path / 'include').mkdir()
    (tmp_path / 'include' / 'answer.hpp').write_text('#ifndef ANSWER\n#define ANSWER\ninline int answer() '
                                                     '{ return BASE + 2; }\n#endif\n')
    (tmp_path / 'file.cpp').write_text('#include "answer.hpp"\nint main() { return answer(); }\n')
    (tmp_path / 'headers').mkdir()
    return tmp_path


@pytest.fixture
def run(folder: Path, checkout: Path) -> Compile:

    def run(*arguments: str, compiler: str = 'c++') -> subprocess.CompletedProcess:
        variables = dict(HEADER=str(folder / 'include' / 'answer.hpp'), HEADER_FOLDER=str(folder / 'headers'),
                         REAL_CXX=compiler, CALLS=str(folder / 'calls'))
        return subprocess.run(['bash', str(checkout / 'tools' / 'cxx_with_header.sh'), *arguments], cwd=folder,
                              env=os.environ | variables, capture_output=True, text=True)

    return run


def compile_file(run: Compile, *flags: str, **options: str) -> subprocess.CompletedProcess:
    return run('-MMD', '-MF', 'file.o.d', '-Iinclude', '-c', '-c', 'file.cpp', '-o', 'file.o', *flags, **options)


@pytest.mark.skipif(shutil.which('c++') is None, reason='needs a C++ compiler')
def test_the_header_is_precompiled_once_for_each_set_of_flags(run: Compile, folder: Path) -> None:
    for base in (40, 40, 5):
        process = compile_file(run, '-O1', f'-DBASE={base}', '-H')
        assert process.returncode == 0, process.stderr
        assert run('file.o', '-o', 'program').returncode == 0  # links
        assert subprocess.run([folder / 'program']).returncode == base + 2
        assert '! ' in process.stderr and 'answer.hpp.gch' in process.stderr  # -H: read precompiled
    made = sorted((folder / 'headers').glob('*/answer.hpp.gch'))
    assert len(made) == 2 and not list((folder / 'headers').glob('*/failed'))
    assert 'include/answer.hpp' in (folder / 'file.o.d').read_text()  # a new header, new objects


@pytest.mark.skipif(shutil.which('c++') is None, reason='needs a C++ compiler')
def test_while_another_process_makes_the_header_files_are_compiled_as_ever(run: Compile, folder: Path) -> None:
    compile_file(run, '-DBASE=1', '-H')
    made, = (folder / 'headers').glob('*/answer.hpp.gch')
    made.unlink()
    process = compile_file(run, '-DBASE=1', '-H')
    assert process.returncode == 0 and 'gch' not in process.stderr and not made.exists()


def test_a_compiler_that_cannot_is_used_as_it_is_and_says_why(run: Compile, folder: Path) -> None:
    fake = folder / 'fake'
    fake.write_text(FAKE)
    fake.chmod(0o755)
    for _ in range(2):
        assert compile_file(run, '-O2', compiler=str(fake)).returncode == 0
    failed, = (folder / 'headers').glob('*/failed')
    assert failed.read_text() == 'no headers here\n' and not list(failed.parent.glob('answer*'))
    header, *compiled = (folder / 'calls').read_text().splitlines()
    assert '-x c++-header' in header and '-O2' in header  # tried once
    assert compiled == ['-MMD -MF file.o.d -Iinclude -c -c file.cpp -o file.o -O2'] * 2


@pytest.mark.skipif(shutil.which('c++') is None, reason='needs a C++ compiler')
def test_errors_are_those_of_the_compiler(run: Compile, folder: Path) -> None:
    (folder / 'file.cpp').write_text('int main() { return nothing; }\n')
    process = compile_file(run, '-DBASE=1')
    assert process.returncode != 0 and 'nothing' in process.stderr
