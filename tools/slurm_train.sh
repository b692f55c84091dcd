#!/usr/bin/env bash
# Trains as a Slurm job, one task a GPU:
#
#   GPUS=16 bash tools/slurm_train.sh PARTITION JOB_NAME CONFIG WORK_DIR [arguments of tools/train.py]
#
#   GPUS            in all; 8 by default
#   GPUS_PER_NODE   8 by default, or GPUS if those are fewer
#   CPUS_PER_TASK   5 by default
#   SRUN_ARGS       further arguments of srun, such as "--time=24:00:00"
#   MASTER_PORT     29500 by default
#   MMDYN_PYTHON    the python to use; python by default
set -euo pipefail
if (($# < 4)); then
    sed -n '2,11s/^# \?//p' "${BASH_SOURCE[0]}" >&2
    exit 2
fi
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
gpus=${GPUS:-8}
per_node=${GPUS_PER_NODE:-$((gpus < 8 ? gpus : 8))}
read -ra srun_args <<<"${SRUN_ARGS:-}"
exec srun --partition="$1" --job-name="$2" --gres="gpu:$per_node" --ntasks="$gpus" --ntasks-per-node="$per_node" \
    --cpus-per-task="${CPUS_PER_TASK:-5}" --kill-on-bad-exit=1 "${srun_args[@]}" \
    "${MMDYN_PYTHON:-python}" -u "$root/tools/train.py" "$3" --work-dir "$4" --launcher slurm "${@:5}"
