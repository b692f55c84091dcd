"""What an application does with a detector of export_onnx.py. Needs numpy, OpenCV and onnxruntime, and nothing else.

    pip install numpy opencv-python-headless onnxruntime
    python demo_onnx.py model.onnx IMAGE... [--out-dir FOLDER] [--score 0.3]

Prints each picture's detections, and the blocks of the backbone that ran for it; draws both to FOLDER/IMAGE.png.
"""
import argparse
import json
from pathlib import Path

import cv2
import numpy as np
import onnxruntime

RAN, SKIPPED, TEXT = (200, 120, 30), (225, 225, 225), (40, 40, 40)  # blue, green, red
FONT = cv2.FONT_HERSHEY_SIMPLEX


def load(path):
    """The session, and what the file's metadata say."""
    if not Path(path).is_file():
        raise SystemExit(f'expected an ONNX file, found nothing at {path}')
    session = onnxruntime.InferenceSession(path, providers=['CPUExecutionProvider'])
    metadata = session.get_modelmeta().custom_metadata_map
    names = [output.name for output in session.get_outputs()]
    if 'mmdyn_version' not in metadata or 'boxes' not in names:
        raise SystemExit('expected a detector that export_onnx.py has written, with boxes and metadata: '
                         f'{path} has the outputs {", ".join(names)} and the metadata {", ".join(metadata) or "none"}')
    if session.get_inputs()[0].shape[1] != 3:
        raise SystemExit(f'expected a detector of pictures with 3 channels, got {session.get_inputs()[0].shape[1]}')
    return session, {name: json.loads(value) for name, value in metadata.items()}


def prepare(picture, shape, metadata):
    """(H, W, 3) 8-bit BGR -> (1, 3, H', W') as the network wants it, and the horizontal and vertical scale."""
    size, stride = np.array(picture.shape[:2]), metadata['stride']
    frames = [np.array(shape[2:])] if isinstance(shape[2], int) else []  # a graph for any size has no numbers there
    if metadata['scale']:  # what the config scales pictures to: the longer and the shorter side
        frames.append(np.array(metadata['scale'] if size[0] > size[1] else metadata['scale'][::-1]))
    scaled = frames[0] if frames else size
    if metadata['keep_ratio']:
        scaled = (size * min([(frame / size).min() for frame in frames], default=1.0) + 0.5).astype(int)
    resized = cv2.resize(picture, tuple(int(side) for side in scaled[::-1]), interpolation=cv2.INTER_LINEAR)
    if metadata['channel_order'] == 'RGB':
        resized = resized[:, :, ::-1]
    normalised = (resized.astype(np.float32) - np.float32(metadata['mean'])) / np.float32(metadata['std'])
    height, width = shape[2:] if isinstance(shape[2], int) else -(-scaled // stride) * stride
    image = np.zeros((1, 3, height, width), np.float32)  # zeros at the right and bottom: padding
    image[0, :, :scaled[0], :scaled[1]] = normalised.transpose(2, 0, 1)
    return image, (scaled / size)[::-1]


def draw(picture, detections, ran, share, classes):
    """The picture with its boxes, beside a list of the blocks."""
    zoom = max(1.0, 480 / picture.shape[0])
    canvas = cv2.resize(picture, None, fx=zoom, fy=zoom)
    for box, score, label in detections:
        left, top, right, bottom = (int(side) for side in box * zoom)
        colour = [int(value) for value in np.random.default_rng(int(label)).integers(60, 255, 3)]
        cv2.rectangle(canvas, (left, top), (right, bottom), colour, 2)
        text = f'{classes[label]} {score:.2f}'
        cv2.putText(canvas, text, (left, max(top - 4, 12)), FONT, 0.45, colour, 1, cv2.LINE_AA)
    panel = np.full((canvas.shape[0], 190, 3), 255, np.uint8)
    cv2.putText(panel, f'{share:.0%} of the backbone', (8, 18), FONT, 0.45, TEXT, 1, cv2.LINE_AA)
    step = min(22.0, (canvas.shape[0] - 30) / max(len(ran), 1))
    for i, (name, runs) in enumerate(ran.items()):
        top = int(28 + i * step)
        cv2.rectangle(panel, (8, top), (40, int(top + step * 0.8)), RAN if runs else SKIPPED, -1)
        cv2.putText(panel, name, (48, int(top + step * 0.7)), FONT, min(0.45, step / 40), TEXT, 1, cv2.LINE_AA)
    return np.hstack([canvas, panel])


def parse_args():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument('model', help='file of export_onnx.py')
    parser.add_argument('images', nargs='+', metavar='IMAGE', help='pictures')
    parser.add_argument('--out-dir', type=Path, default=Path('onnx_demo'), help='folder (default: %(default)s)')
    parser.add_argument('--score', type=float, default=0.3, help='the least that is shown (default: %(default)s)')
    return parser.parse_args()


def main():
    args = parse_args()
    session, metadata = load(args.model)
    names = [output.name for output in session.get_outputs()]
    classes = metadata['classes'] or [f'class {i}' for i in range(10000)]
    args.out_dir.mkdir(parents=True, exist_ok=True)
    for path in args.images:
        picture = cv2.imread(path, cv2.IMREAD_COLOR)
        if picture is None:
            raise SystemExit(f'expected a picture that OpenCV can read, got {path}')
        image, scale = prepare(picture, session.get_inputs()[0].shape, metadata)
        found = dict(zip(names, session.run(None, {session.get_inputs()[0].name: image})))
        boxes = found['boxes'] / np.tile(scale, 2)
        detections = [row for row in zip(boxes, found['scores'], found['labels']) if row[1] >= args.score]
        ran = dict(zip(metadata['blocks'], found['blocks'][0] > 0)) if 'blocks' in found else {}
        share = found['macs'][0] / found['macs'][1]
        print(f'{path}: {len(detections)} objects, {sum(ran.values())} of {len(ran)} blocks that can be left out ran, '
              f'{share:.0%} of the multiply-adds of the backbone')
        for box, score, label in detections:
            print(f'    {classes[label]} {score:.2f} at {", ".join(f"{side:.0f}" for side in box)}')
        target = args.out_dir / f'{Path(path).stem}.png'
        cv2.imwrite(str(target), draw(picture, detections, ran, share, classes))


if __name__ == '__main__':
    main()
