"""Pictures of inference graphs during validation and testing."""
from typing import Any, Optional, Sequence

import mmcv
from mmengine.fileio import get
from mmengine.hooks import Hook

from ..backbones.dynamic_backbone import DynamicBackbone
from ..cost import CostAccount
from ..engine.unwrapped import unwrapped
from ..registry import HOOKS
from ..visualization import draw_inference_graph, read_graph, read_prediction


@HOOKS.register_module()
class InferenceGraphHook(Hook):
    """Draws what images ran, and hands the pictures to the visualizer's back ends.

    They appear beside the metrics as ``inference_graph_<image>``: on disk with
    ``LocalVisBackend``, and in TensorBoard or WandB where the config names their back end. Needs
    no other hook.

    Args:
        interval: Images between two that are drawn; the first one always is.
        max_images: Most images to draw in one evaluation, by each process.
        score_threshold: Detections below it are not drawn.
        backend_args: Of the storage that the image files are read from, as in
            ``LoadImageFromFile``.

    Raises:
        ValueError: Naming the option, what was expected and what came.
    """

    priority = 'NORMAL'

    def __init__(self,
                 *,
                 interval: int = 50,
                 max_images: int = 8,
                 score_threshold: float = 0.3,
                 backend_args: Optional[dict] = None) -> None:
        for name, value in dict(interval=interval, max_images=max_images).items():
            if not isinstance(value, int) or value < 1:
                raise ValueError(f'{name} must be an int of at least 1, got {value!r}')
        self.interval = interval
        self.max_images = max_images
        self.score_threshold = score_threshold
        self.backend_args = backend_args
        self._seen = self._drawn = 0
        self._backbone: Optional[DynamicBackbone] = None
        self._account: Optional[CostAccount] = None

    def before_run(self, runner) -> None:
        """Finds the backbone.

        Raises:
            ValueError: If the model has no dynamic one.
        """
        model = unwrapped(runner.model)
        self._backbone = next((m for m in model.modules() if isinstance(m, DynamicBackbone)), None)
        if self._backbone is None:
            raise ValueError('InferenceGraphHook expected a model with a dynamic backbone, such as '
                             f"backbone=dict(type='mmdyn.AIGResNet', ...), got "
                             f'{type(model).__name__} without one')
        self._account = CostAccount(self._backbone)

    def _before_epoch(self, runner, mode: str = 'train') -> None:
        if mode != 'train':
            self._seen = self._drawn = 0

    def after_val_iter(self, runner, batch_idx: int, data_batch: Any = None,
                       outputs: Optional[Sequence[Any]] = None) -> None:
        self._draw_batch(runner, runner.val_dataloader.dataset, outputs or ())

    def after_test_iter(self, runner, batch_idx: int, data_batch: Any = None,
                        outputs: Optional[Sequence[Any]] = None) -> None:
        self._draw_batch(runner, runner.test_dataloader.dataset, outputs or ())

    def _draw_batch(self, runner, dataset: Any, samples: Sequence[Any]) -> None:
        for index, sample in enumerate(samples):
            if self._seen % self.interval == 0 and self._drawn < self.max_images:
                self._draw(runner, dataset, index, sample)
            self._seen += 1

    def _draw(self, runner, dataset: Any, index: int, sample: Any) -> None:
        path = sample.get('img_path')
        if path is None:
            runner.logger.warning('InferenceGraphHook draws nothing: the predictions have no '
                                  "img_path; add it to the meta_keys of the pipeline's packing")
            self._drawn = self.max_images
            return
        image = mmcv.imfrombytes(get(path, backend_args=self.backend_args), channel_order='rgb')
        classes = getattr(dataset, 'metainfo', {}).get('classes')
        prediction = read_prediction(sample, classes, score_threshold=self.score_threshold)
        graph = read_graph(self._backbone, index, account=self._account)
        picture = draw_inference_graph(graph, image, prediction, title=str(path))
        name = sample.get('img_id', sample.get('sample_idx', self._seen))
        # Without a slash: LocalVisBackend writes to files of this name, and makes no folders.
        runner.visualizer.add_image(f'inference_graph_{name}', picture, step=runner.iter)
        self._drawn += 1
