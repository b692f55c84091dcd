#!/usr/bin/env bash
# Evaluates on several processes, one a GPU, or on CPUs where there is no GPU:
#
#   bash tools/dist_test.sh CONFIG CHECKPOINT PROCESSES [arguments of tools/test.py]
#
# NNODES, NODE_RANK, MASTER_ADDR, PORT and MMDYN_PYTHON: see tools/dist_train.sh.
set -euo pipefail
if (($# < 3)); then
    sed -n '2,6s/^# \?//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
exec "${MMDYN_PYTHON:-python}" -m torch.distributed.run \
    --nnodes="${NNODES:-1}" --node-rank="${NODE_RANK:-0}" --nproc-per-node="$3" \
    --master-addr="${MASTER_ADDR:-127.0.0.1}" --master-port="${PORT:-29500}" \
    "$root/tools/test.py" "$1" "$2" --launcher pytorch "${@:4}"
