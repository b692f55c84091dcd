"""routes.py: its report from a dump, and what it refuses."""
import base64
import json
import re

import numpy as np
import pytest

from mmdyn.analysis.route_dump import order_classes, read_dump
from mmdyn.analysis.route_sections import make_sections
from mmdyn.cost import ImageCost
from mmdyn.metrics.compute_report import ImageRecord, summarise, write_dump

TOOL = 'analysis_tools/routes.py'
BLOCKS = ['layer1.0', 'layer1.1', 'layer2.0']
CLASSES = ['bird', 'cat', 'car', 'truck', 'none']


def write(path, images: int = 60, *, detections: bool = False, wired: bool = False, labels: bool = True):
    """Animals (classes 0 and 1) run block 0 and vehicles block 1; block 2 is a coin."""
    rng, records = np.random.default_rng(0), []
    for n in range(images):
        own = rng.integers(0, 4, rng.integers(0, 4)) if detections else np.array([n % 4])
        animal = n % 4 < 2
        ran = dict(zip(BLOCKS, [animal, not animal, bool(rng.random() < 0.5)]))
        adjacency = {'layer1': np.triu(rng.random((3, 3)), 1).round()} if wired else {}
        records.append(ImageRecord(
            n, f'missing/{n}.jpg', (64, 64), ImageCost(10**9 * (1 + sum(ran.values())), 4 * 10**9, 'AIGResNet'), ran, {},
            adjacency, own if labels else None, rng.random(len(own)) * 5000 if detections and labels else None))
    write_dump(str(path), records, summarise(records), CLASSES)
    return path


def test_a_dump_is_read_as_it_was_written(tmp_path):
    dump = read_dump(str(write(tmp_path / 'd.json', 8, wired=True)))
    assert dump.units == [*BLOCKS, 'layer1 0>1', 'layer1 0>2', 'layer1 1>2'] and dump.blocks == 3
    rows = json.loads((tmp_path / 'd.json').read_text())['images']
    for n, row in enumerate(rows):
        weights = np.array(row['adjacency']['layer1'])
        edges = [weights[0, 1] > 0, weights[0, 2] > 0, weights[1, 2] > 0]
        assert dump.routes[n].tolist() == [*map(bool, row['ran']), *edges]
    assert dump.held.argmax(axis=1).tolist() == [0, 1, 2, 3] * 2 and dump.gmacs[0] == rows[0]['macs'] / 1e9


def class_names(axes) -> list[str]:
    """Labels of an axis that names classes, without what stands in brackets."""
    labels = [[text.get_text().partition(' (')[0] for text in own.get_ticklabels()] for own in (axes.xaxis, axes.yaxis)]
    return next(names for names in labels if set(names) <= set(CLASSES))


def test_all_charts_show_the_classes_in_one_order(tmp_path):
    dump = order_classes(read_dump(str(write(tmp_path / 'd.json'))))
    blocks = dump.routes[:, :dump.blocks].sum(axis=1)
    means = [blocks[dump.held[:, c]].mean() for c in range(4)]
    assert means == sorted(means) and len(set(means)) > 1 and dump.classes[-1] == 'none'
    sections = {section.name: section for section in make_sections(dump, None, permutations=10, clusters=3, seed=0)}
    charts = [sections['heatmap'].figure.axes[0], sections['heatmap'].figure.axes[1],
              sections['blocks_per_class'].figure.axes[0], sections['clusters'].figure.axes[1]]
    assert [class_names(axes) for axes in charts] == [dump.classes[:4]] * 4
    assert class_names(charts[0]) != CLASSES[:4]


@pytest.mark.parametrize('options, parts', [
    (dict(), ['cost', 'heatmap', 'blocks_per_class', 'information', 'clusters']),
    (dict(detections=True), ['cost', 'heatmap', 'blocks_per_class', 'information', 'clusters', 'objects']),
    (dict(wired=True, labels=False), ['cost', 'clusters']),
    (dict(images=1), ['cost', 'heatmap', 'blocks_per_class', 'information', 'clusters']),
])
def test_report(run_tool, tmp_path, options, parts):
    out = run_tool(TOOL, write(tmp_path / 'd.json', **options))
    folder = tmp_path / 'd_routes'
    assert {path.stem for path in folder.glob('*.png')} == set(parts)
    page = (folder / 'report.html').read_text()
    assert re.findall(r'(?:src|href)="(?!data:)', page) == []
    pictures = re.findall(r'src="data:image/png;base64,([^"]+)"', page)
    assert len(pictures) == len(parts) and all(base64.b64decode(own).startswith(b'\x89PNG') for own in pictures)
    assert 'Left out: ' in out and str(folder / 'report.html') in out


def test_classes_without_images_and_files_that_are_gone_are_said(run_tool, tmp_path):
    out = run_tool(TOOL, write(tmp_path / 'd.json'))
    assert 'Without images, and left out: none.' in out
    assert 'Left out: 40 of 40 image files were not found' in out
    assert 'Left out: 4 of 4 image files' in run_tool(TOOL, tmp_path / 'd.json', '--images', 2)


def test_groups(run_tool, tmp_path):
    out = run_tool(TOOL, write(tmp_path / 'd.json'), '--groups', 'animals=bird,cat', 'vehicles=car,truck',
                   '--permutations', 100, '--out-dir', tmp_path / 'new' / 'out')
    assert 'animals against vehicles: The mean routes of animals (30 images) and vehicles (30)' in out
    assert 'over images: p = 0.0099 (100 random' in out and 'over classes: p = 0.33 (all 6 divisions' in out
    assert (tmp_path / 'new' / 'out' / 'groups.png').is_file()


@pytest.mark.parametrize('arguments, message', [
    (['--groups', 'animals', 'b=car'], '--groups expects NAME=CLASS,CLASS, got animals'),
    (['--groups', 'a=dog', 'b=car'], 'no class dog; there are bird, car, cat'),
    (['--groups', 'a=none', 'b=car'], 'no images of none in the dump'),
    (['--groups', 'a=bird', 'b=bird'], 'share no class, both have bird'),
    (['--clusters', '0'], '--clusters expects a number of at least 1, got 0'),
    (['--images', '0'], '--images expects a number of at least 1, got 0'),
])
def test_bad_options(run_tool, tmp_path, arguments, message):
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, write(tmp_path / 'd.json'), *arguments)


@pytest.mark.parametrize('change, message', [
    (lambda content: content.update(images=[]), 'expected images, the dump holds none'),
    (lambda content: content.update(format='coco'), 'is another JSON file; such a file is written by'),
    (lambda content: content.pop('blocks'), 'the dump lacks blocks; such a file'),
    (lambda content: content.update(version=9), 'expected version 1 of the format, got 9'),
    (lambda content: content['images'][3].update(ran=[1, 0]), 'image 3 has 2 decisions.*dumps of two models'),
])
def test_bad_dumps(run_tool, tmp_path, change, message):
    path = write(tmp_path / 'd.json')
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))
    with pytest.raises(SystemExit, match=message):
        run_tool(TOOL, path)


def test_a_folder_that_cannot_be_made(run_tool, tmp_path):
    path = write(tmp_path / 'd.json')
    with pytest.raises(SystemExit, match='can be written to, but .*d.json cannot: File exists'):
        run_tool(TOOL, path, '--out-dir', path)


def test_files_that_are_no_dumps(run_tool, tmp_path):
    for text, message in (('', 'found an empty file'), ('{"format"', 'is not JSON')):
        (tmp_path / 'd.json').write_text(text)
        with pytest.raises(SystemExit, match=message):
            run_tool(TOOL, tmp_path / 'd.json')
    with pytest.raises(SystemExit, match='expected a dump of decisions, found nothing'):
        run_tool(TOOL, tmp_path / 'nowhere.json')
