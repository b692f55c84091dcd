"""A graph that onnxruntime runs, its outputs by name, and what its file says of it."""
from pathlib import Path
from typing import Any

import numpy as np

from ..engine import InputError
from . import metadata


class OnnxSession:
    """A file of tools/deployment/export_onnx.py, loaded.

    Args:
        path: Of the file; for the messages where the model itself is given.
        model: The serialised model, if it is not to be read from the file.
        threads: Of onnxruntime.
        profile: Path and first part of the name of a file that onnxruntime writes what ran and how long to.

    Raises:
        InputError: If there is no such file, or it is not one of an export.
    """

    def __init__(self, path: Path, model: bytes | None = None, *, threads: int = 1, profile: str | None = None) -> None:
        import onnxruntime
        if model is None and not path.is_file():
            raise InputError(f'expected an ONNX file, found {"a folder" if path.is_dir() else "nothing"} at {path}')
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = threads
        options.log_severity_level = 3  # errors
        if profile is not None:
            options.enable_profiling, options.profile_file_prefix = True, profile
        try:
            self.session = onnxruntime.InferenceSession(path.read_bytes() if model is None else model, options,
                                                        providers=['CPUExecutionProvider'])
        except Exception as error:  # of a class of its own for each reason
            raise InputError(f'expected an ONNX file at {path}, but onnxruntime cannot load it: {error}') from error
        self.path = path
        self.metadata = metadata.read(self.session.get_modelmeta().custom_metadata_map, path)
        self.names = [output.name for output in self.session.get_outputs()]
        self.shape: list[Any] = self.session.get_inputs()[0].shape

    @property
    def size(self) -> tuple[int, int] | None:
        """(H, W) of the images; None if it may differ from image to image."""
        return (self.shape[2], self.shape[3]) if isinstance(self.shape[2], int) else None

    def run(self, images: np.ndarray, **others: np.ndarray) -> dict[str, np.ndarray]:
        """Runs an image.

        Args:
            images: (1, C, H, W) float32, normalised.
            **others: Further inputs, of graphs that have some.

        Returns:
            Output name -> values.

        Raises:
            InputError: If the image is of another size than the graph takes.
        """
        wanted = [side if isinstance(side, int) else got for side, got in zip(self.shape, images.shape)]
        stride = self.metadata['stride']
        if list(images.shape) != wanted or any(side % stride for side in images.shape[2:]):
            sides = 'x'.join(str(side) if isinstance(side, int) else f'a multiple of {stride}' for side in self.shape)
            raise InputError(f'{self.path} takes images of {sides}, got {"x".join(map(str, images.shape))}')
        return dict(zip(self.names, self.session.run(None, dict(images=images, **others))))
