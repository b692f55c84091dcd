#!/usr/bin/env bash
# Evaluates as a Slurm job, one task a GPU:
#
#   GPUS=16 bash tools/slurm_test.sh PARTITION JOB_NAME CONFIG CHECKPOINT [arguments of tools/test.py]
#
# GPUS, GPUS_PER_NODE, CPUS_PER_TASK, SRUN_ARGS, MASTER_PORT and MMDYN_PYTHON: see tools/slurm_train.sh.
set -euo pipefail
if (($# < 4)); then
    sed -n '2,6s/^# \?//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -ra srun_args <<<"${SRUN_ARGS:-}"
exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 "${srun_args[@]}" \
    "${MMDYN_PYTHON:-python}" -u "$root/tools/test.py" "$3" "$4" --launcher slurm "${@:5}"
