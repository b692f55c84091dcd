#!/usr/bin/env bash
# The whole job in a few minutes on two CPU cores:  bash tools/demo.sh
# Makes a small set of pictures, trains Faster R-CNN with a dynamic ResNet-18 on it, evaluates it, and leaves pictures.
#   BACKBONE=dg bash tools/demo.sh             DG-Net instead of ConvNet-AIG
#   DATA=path/to/coco bash tools/demo.sh       your own pictures, in COCO's layout
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
data=${DATA:+$(realpath -m "$DATA")}
python=$(bash "$root/tools/setup_env.sh")
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$(nproc)}
exec "$python" tools/demo.py --backbone "${BACKBONE:-aig}" ${data:+--data "$data"} "$@"
