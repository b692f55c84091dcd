"""tools/deployment/benchmark_onnx.py: the branches go where they are told, beside a static file."""
import copy
import json
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip('onnx')
pytest.importorskip('onnxruntime')
from mmdyn.deployment.latency import ForcedFile  # noqa: E402
from mmdyn.deployment.onnx_session import OnnxSession  # noqa: E402

TOOL = 'deployment/benchmark_onnx.py'


@pytest.fixture(scope='module')
def static_file(onnx_file, tmp_path_factory):
    """The same with one branch of each `If` in its place, so that nothing is left to be decided."""
    import onnx
    model = onnx.load(str(onnx_file[0]))
    nodes, constants = [], {constant.name: constant for constant in model.graph.initializer}
    for node in model.graph.node:
        if node.op_type == 'If':
            body = next(attribute.g for attribute in node.attribute if attribute.name == 'then_branch')
            constants |= {constant.name: constant for constant in body.initializer}
            nodes += [*body.node, onnx.helper.make_node('Identity', [body.output[0].name], list(node.output))]
        else:
            nodes.append(node)
    for node in nodes:
        node.name = ''  # those inside branches have names of their own
    del model.graph.node[:]
    model.graph.node.extend(nodes)
    constants = list(map(copy.deepcopy, constants.values()))
    del model.graph.initializer[:]
    model.graph.initializer.extend(constants)
    path = tmp_path_factory.mktemp('static') / 'static.onnx'
    onnx.save(model, str(path))
    return path


def test_table(onnx_file, static_file, run_tool):
    lines = run_tool(TOOL, onnx_file[0], static_file, '--backbones', onnx_file[0], static_file, '--threads', 1, 2,
                     '--rounds', 2).splitlines()
    assert lines[0] == '| milliseconds (of static) | static | open rate 0 | open rate 0.5 | open rate 1 |'
    names = [line.split('|')[1].strip() for line in lines[2:]]
    assert names == ['whole model, 1 thread', 'its backbone', "the backbone's share",
                     'whole model, 2 threads', 'its backbone', "the backbone's share"]
    assert all(line.count('|') == 6 for line in lines)


def test_as_many_blocks_run_as_are_asked_for(onnx_file, tmp_path, monkeypatch):
    monkeypatch.setattr('mmdyn.deployment.latency.OnnxSession', lambda path, model, threads: OnnxSession(
        path, model, threads=threads, profile=str(tmp_path / 'profile')))
    counts = []
    for rate in (0.0, 0.5, 1.0):
        forced, draw = ForcedFile(onnx_file[0], 1), np.random.default_rng(0)
        forced.run(draw.standard_normal((1, 3, 96, 96), dtype=np.float32), rate, draw)
        events = json.loads(Path(forced.session.session.end_profiling()).read_text())
        counts.append(sum(event.get('args', {}).get('op_name') in ('Conv', 'FusedConv') for event in events
                          if event['name'].endswith('_kernel_time')))
    assert counts[1] - counts[0] == counts[2] - counts[1] == 4  # two blocks of two convolutions


def test_bad_input(onnx_file, static_file, run_tool):
    with pytest.raises(SystemExit, match='expected a file with blocks that can be left out, found none in'):
        run_tool(TOOL, static_file, onnx_file[0])
