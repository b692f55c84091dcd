#!/usr/bin/env bash
# Trains on several processes, one a GPU, or on CPUs where there is no GPU:
#
#   bash tools/dist_train.sh CONFIG PROCESSES [arguments of tools/train.py]
#
# On several machines, start it on each with its own NODE_RANK; PROCESSES are those of one machine:
#   NNODES=4 NODE_RANK=0 MASTER_ADDR=first-machine PORT=29500 bash tools/dist_train.sh CONFIG 8
#
#   MMDYN_PYTHON   the python to use; python by default
set -euo pipefail
if (($# < 2)); then
    sed -n '2,7s/^# \?//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "${MMDYN_PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$2" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$root/tools/train.py" "$1" --launcher pytorch "${@:3}"
