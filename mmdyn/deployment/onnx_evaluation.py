"""Evaluates a graph as a Runner evaluates its model: the config's data set and metrics, onnxruntime's predictions."""
from collections import OrderedDict
from typing import Any

import numpy as np
import torch
from mmdet.structures import DetDataSample
from mmengine.config import Config
from mmengine.evaluator import Evaluator
from mmengine.registry import MODELS
from mmengine.runner import Runner
from mmengine.structures import InstanceData
from torch import Tensor
from torch.nn.functional import pad

from ..cost import ImageCost
from ..engine import InputError, listed, with_part
from ..layers.decisions import Decisions
from . import metadata
from .onnx_session import OnnxSession


def evaluate(cfg: Config, graph: OnnxSession) -> dict[str, float]:
    """Runs the images of the config's ``test_dataloader`` one by one, and lets its ``test_evaluator`` judge.

    Args:
        cfg: Of the model that was exported.
        graph: With boxes.

    Returns:
        Metric -> value; those of ``mmdyn.ComputeMetric`` are added if the graph decides and the config has it not.

    Raises:
        InputError: If the graph has no boxes, or is of other classes or another image size than the config.
    """
    if 'boxes' not in graph.names:
        raise InputError(f'expected a detector with boxes, but {graph.path} gives {", ".join(graph.names)}')
    classes = metadata.evaluated_classes(cfg)
    if classes != graph.metadata['classes']:
        raise InputError(f'{graph.path} was exported with the classes {graph.metadata["classes"]} (config '
                         f'{graph.metadata["config"]}), but this config has {classes}')
    evaluators = listed(cfg.test_evaluator)
    if 'blocks' in graph.names:
        evaluators = with_part(evaluators, dict(type='mmdyn.ComputeMetric'))
    loader, evaluator = Runner.build_dataloader(cfg.test_dataloader), Evaluator(evaluators)
    evaluator.dataset_meta = loader.dataset.metainfo
    preprocessor = MODELS.build(cfg.model.data_preprocessor)
    total, done = len(loader.dataset), 0
    for batch in loader:
        samples = []
        for image, sample in zip(batch['inputs'], batch['data_samples']):
            prepared = preprocessor(dict(inputs=[image], data_samples=[sample]), False)
            samples.append(predict(graph, prepared['inputs'], sample))
            done += 1
            if done % max(1, total // 10) == 0:
                print(f'{done} of {total} images', flush=True)
        evaluator.process(samples, batch)
    return evaluator.evaluate(total)


def predict(graph: OnnxSession, image: Tensor, sample: DetDataSample) -> DetDataSample:
    """The sample with what the graph predicts, boxes in pixels of the picture's file, and with its decisions and cost.

    Args:
        graph: With boxes.
        image: (1, C, h, w) normalised; smaller ones are padded to the graph's size.
        sample: Of the image.
    """
    outputs = graph.run(fit(image, graph).numpy())
    scale = np.array(sample.scale_factor * 2, dtype=np.float32)
    sample.pred_instances = InstanceData(
        bboxes=torch.from_numpy(outputs['boxes'] / scale), scores=torch.from_numpy(outputs['scores']),
        labels=torch.from_numpy(outputs['labels']))
    if 'blocks' in outputs:
        sample.set_field(decisions_of(graph, outputs, sample.img_shape[:2]), 'decisions', dtype=Decisions)
        ran, dense = outputs['macs'].tolist()
        sample.set_field(ImageCost(ran, dense, graph.metadata['config']), 'cost', dtype=ImageCost)
    return sample


def fit(image: Tensor, graph: OnnxSession) -> Tensor:
    """The image, padded at the right and bottom with zeros; one that is larger is left for the graph to refuse."""
    height, width = image.shape[2:]
    stride = graph.metadata['stride']
    wanted = graph.size or (-(-height // stride) * stride, -(-width // stride) * stride)
    if height > wanted[0] or width > wanted[1]:
        raise InputError(f'{graph.path} takes images of {wanted[0]} x {wanted[1]}, but the pipeline of the config '
                         f'gives {height} x {width}: export with --shape {height} {width} (or --dynamic), or scale to '
                         'less by --cfg-options')
    return pad(image, (0, wanted[1] - width, 0, wanted[0] - height))


def decisions_of(graph: OnnxSession, outputs: dict[str, Any], size: tuple[int, int]) -> Decisions:
    """What the graph says that it decided about one image of (H, W) pixels."""
    decisions, prefix = Decisions(torch.tensor([size]), size), 'adjacency_'
    # A node of a wired stage, too, is given as a gate: whether it ran is known.
    blocks = torch.from_numpy(outputs['blocks'])
    decisions.gates = OrderedDict(zip(graph.metadata['blocks'], blocks.unbind(dim=1)))
    decisions.adjacency = OrderedDict((name.removeprefix(prefix), torch.from_numpy(value))
                                      for name, value in outputs.items() if name.startswith(prefix))
    return decisions
