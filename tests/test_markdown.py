"""Every command and every config of the Markdown pages can be used as it is written, and every link leads somewhere.

Commands are split up by bash itself; what they would start is not started, but their arguments are parsed by the tools'
own parsers, so that an option that was renamed, or a file that was moved, is found.
"""
import argparse
import ast
import re
import runpy
import subprocess
import sys
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
from mmengine.config import Config

from mmdyn.backbones import AIGResNet, DGResNet
from mmdyn.engine import check_config
from mmdyn.engine.config_check import find_mistakes
from mmdyn.registry import options_of

ROOT = Path(__file__).resolve().parents[1]
PAGES = sorted(path for folder in ('.', 'configs', 'tools') for path in (ROOT / folder).glob(
    '*.md' if folder == '.' else '**/*.md'))
TOOLS = sorted((ROOT / 'tools').rglob('*.py'))

BLOCK = re.compile(r'^```(\w*)\n(.*?)^```', re.MULTILINE | re.DOTALL)
INLINE_COMMAND = re.compile(r'(?:[A-Z_]+=\S+ )*(?:python (?:-m|tools/)|bash tools/|pip install \S|torchrun -)')
# What a command would start is written down instead, an argument a line; of a call, the last line is its end.
RECORDER = r'''
set -eu
PATH=
record() { printf '%s\n' "$@" $'\1'; }
for name in python pip torchrun bash; do eval "$name() { record $name \"\$@\"; }"; done
'''
# Where a shell script hands its arguments on to one of the tools: which, and how.
HANDED_ON = {
    'dist_train.sh': lambda config, processes, *rest: ('tools/train.py', config, *rest),
    'dist_test.sh': lambda config, checkpoint, processes, *rest: ('tools/test.py', config, checkpoint, *rest),
    'slurm_train.sh': lambda partition, job, config, folder, *rest: ('tools/train.py', config, *rest),
    'slurm_test.sh': lambda partition, job, config, checkpoint, *rest: ('tools/test.py', config, checkpoint, *rest),
}


def spans(page: Path) -> list[str]:
    """Code inside paragraphs."""
    text = re.sub(BLOCK, '', page.read_text())
    return [' '.join(span.split()) for span in re.findall(r'`([^`]+)`', text)]


def blocks(page: Path, language: str) -> list[str]:
    return [body for kind, body in re.findall(BLOCK, page.read_text()) if kind == language]


def named(items: list[tuple[Path, Any]]) -> list:
    return [pytest.param(item, id=f'{page.relative_to(ROOT)}-{n}') for n, (page, item) in enumerate(items)]


# The blocks of a page are one session of a shell: later ones use what earlier ones have set.
SESSIONS = [(page, '\n'.join([*blocks(page, 'bash'), *filter(INLINE_COMMAND.match, spans(page))])) for page in PAGES]
CONFIGS = [(page, body) for page in PAGES for body in blocks(page, 'python')]
SNIPPETS = [(page, span) for page in PAGES for span in spans(page) if "type='mmdyn." in span]


def calls(session: str) -> list[list[str]]:
    """The arguments of every command in it."""
    process = subprocess.run(['bash', '-c', RECORDER + session], capture_output=True, text=True)
    assert process.returncode == 0, process.stderr
    return [call.strip('\n').split('\n') for call in process.stdout.split('\1\n') if call]


@lru_cache(maxsize=None)
def parser_of(script: str) -> Any:
    return runpy.run_path(str(ROOT / script), run_name='parsed')['parse_args']


def parse(script: str, *arguments: str) -> argparse.Namespace:
    """What a tool makes of its arguments; SystemExit where it refuses them."""
    before, sys.argv = sys.argv, [script, *arguments]
    try:
        return parser_of(script)()
    finally:
        sys.argv = before


def check_tool(script: str, *arguments: str) -> None:
    args = parse(script, *arguments)
    config = getattr(args, 'config', '')
    if config.startswith('configs/') and 'CONFIG' not in config:
        assert (ROOT / config).is_file(), config


def check_call(program: str, *arguments: str) -> None:
    match program, *arguments:
        case 'python', '-m', module:
            assert find_spec(module), module
        case 'python', script, *rest:
            check_tool(script, *rest)
        case 'torchrun', '--nproc-per-node', number, script, *rest:
            assert number.isdecimal()
            check_tool(script, *rest)
        case 'bash', script, *rest:
            assert (ROOT / script).is_file(), script
            if Path(script).name in HANDED_ON:
                check_tool(*HANDED_ON[Path(script).name](*rest))
                return
            for word in rest:
                if word.startswith('-'):
                    assert f' {word}) ' in (ROOT / script).read_text(), word  # a case of the script's
                elif word.startswith('tests/'):
                    assert (ROOT / word).exists(), word
        case 'pip', 'install', *rest:
            for extra in re.findall(r'\.\[(\w+)\]', ' '.join(rest)):
                assert f"\n    '{extra}': [" in (ROOT / 'setup.py').read_text(), extra
        case _:
            pytest.fail(f'no test knows what to do with {program} {" ".join(arguments)}')


@pytest.mark.parametrize('session', named(SESSIONS))
def test_commands(session: str) -> None:
    for call in calls(session):
        try:
            check_call(*call)
        except SystemExit as error:
            pytest.fail(f'{" ".join(call)}: exit {error.code}')


def test_bash_splits_commands_up_as_a_user_would_see_it() -> None:
    session = 'A="a b"\nfor n in 1 2; do\n    python x.py $A \\\n        "c d" $n  # why\ndone'
    assert calls(session) == [['python', 'x.py', 'a', 'b', 'c d', '1'], ['python', 'x.py', 'a', 'b', 'c d', '2']]


@pytest.mark.parametrize('call', [
    ['python', 'tools/train.py'], ['python', 'tools/train.py', 'CONFIG', '--resumed'], ['bash', 'tools/no.sh'],
    ['python', 'tools/train.py', 'configs/no.py'], ['pip', 'install', '.[no]'], ['bash', 'tools/run_tests.sh', '--al'],
    ['bash', 'tools/dist_train.sh', 'CONFIG', '8', '--lr', '1'],
])
def test_a_wrong_command_is_found(call: list[str]) -> None:
    with pytest.raises((AssertionError, SystemExit)):
        check_call(*call)


@pytest.mark.parametrize('path', TOOLS, ids=lambda path: path.name)
def test_every_tool_explains_itself(path: Path, capsys: pytest.CaptureFixture) -> None:
    with pytest.raises(SystemExit) as caught:
        parse(str(path.relative_to(ROOT)), '--help')
    assert caught.value.code == 0 and 'usage: ' in capsys.readouterr().out


@pytest.mark.parametrize('body', named(CONFIGS))
def test_configs_and_programs(body: str, tmp_path: Path) -> None:
    if 'import' not in body:
        (tmp_path / 'config.py').write_text(body)
        check_config(Config.fromfile(tmp_path / 'config.py'))
        return
    imports = [node for node in ast.parse(body).body if isinstance(node, (ast.Import, ast.ImportFrom))]
    assert imports
    exec(compile(ast.Module(imports, []), 'imports', 'exec'), {})


@pytest.mark.parametrize('snippet', named(SNIPPETS))
def test_what_a_sentence_says_to_add_to_a_config(snippet: str) -> None:
    values: dict[str, Any] = {}
    exec(snippet if '=' in snippet.partition('(')[0] else f'_ = {snippet}', dict(dict=dict), values)
    assert values and not list(find_mistakes(values, ''))


@pytest.mark.parametrize('title, backbone', [('Options of the AIG backbones', AIGResNet),
                                             ('Options of the DG backbones', DGResNet)])
def test_the_options_in_the_tables_exist(title: str, backbone: type) -> None:
    section = (ROOT / 'configs' / 'README.md').read_text().partition(f'## {title}')[2].partition('\n## ')[0]
    options = re.findall(r'^\| `(\w+)`', section, re.MULTILINE)
    assert len(options) >= 5 and set(options) <= options_of(backbone)


def anchors(page: Path) -> set[str]:
    """Of the headings, as GitHub makes them."""
    headings = re.findall(r'^#+ (.*)', re.sub(BLOCK, '', page.read_text()), re.MULTILINE)
    return {re.sub(r'[^\w\- ]', '', heading.lower()).replace(' ', '-') for heading in headings}


@pytest.mark.parametrize('page', PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_and_lines(page: Path) -> None:
    for target in re.findall(r'\]\(([^)\s]+)\)', page.read_text()):
        if '://' not in target:
            file, _, anchor = target.partition('#')
            path = (page.parent / file).resolve() if file else page
            assert path.exists(), target
            assert not anchor or anchor in anchors(path), target
    assert max(map(len, page.read_text().splitlines())) <= 120


def test_the_first_page_is_short() -> None:
    assert len((ROOT / 'README.md').read_text().splitlines()) <= 170
