"""Data samples of both libraries, as they are drawn."""
import torch
from mmdet.structures import DetDataSample
from mmengine.structures import BaseDataElement, InstanceData
from mmpretrain.structures import DataSample

from mmdyn.visualization import read_prediction


def test_detections_above_the_threshold():
    instances = InstanceData(bboxes=torch.tensor([[0., 1, 2, 3], [4, 5, 6, 7]]), scores=torch.tensor([0.9, 0.2]),
                             labels=torch.tensor([1, 0]))
    prediction = read_prediction(DetDataSample(pred_instances=instances), ('cat', 'dog'), score_threshold=0.5)
    assert prediction.boxes.tolist() == [[0, 1, 2, 3]] and prediction.texts == ('dog 0.90', )
    assert prediction.kinds == (1, ) and prediction.caption == '1 detection of score 0.5 or more'
    assert read_prediction(DetDataSample(pred_instances=instances)).texts == ('class 1 0.90', )


def test_a_classification_with_its_truth():
    sample = DataSample().set_pred_score(torch.tensor([0.25, 0.75])).set_pred_label(1)
    assert read_prediction(sample, ('cat', 'dog')).caption == 'dog 0.75'
    assert read_prediction(sample.set_gt_label(0), ('cat', 'dog')).caption == 'dog 0.75 (truth: cat)'


def test_other_samples_have_nothing_to_draw():
    prediction = read_prediction(BaseDataElement())
    assert len(prediction.boxes) == 0 and prediction.caption == ''
