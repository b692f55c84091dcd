#!/usr/bin/env bash
# Sets the environment up if need be and runs the tests:  bash tools/run_tests.sh [--all] [pytest's options and tests]
#   --all   also what takes long, such as every configuration of mmdet instead of one per folder
# All tests share the cores, up to eight; named ones run in one process, for which workers' imports would not pay.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

arguments=()
targets=(tests)
for argument in "$@"; do
    case $argument in
        --all) export MMDYN_TEST_ALL=1 ;;
        tests/*) targets=() && arguments+=("$argument") ;;  # named tests instead of all
        *) arguments+=("$argument") ;;
    esac
done

python=$(bash "$root/tools/setup_env.sh")
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH}
# The tests' tensors are so small that several threads would wait for each other more than they compute.
export OMP_NUM_THREADS=${OMP_NUM_THREADS:-1}
workers=()
if ((${#targets[@]})) && "$python" -c 'import xdist' 2>/dev/null; then  # an environment of MMDYN_PYTHON may lack it
    # Neighbours stay together, for what a module or folder makes once, until a worker has nothing left to do.
    workers=(-n logical --maxprocesses 8 --dist worksteal)
fi
exec "$python" -m pytest "${targets[@]}" "${workers[@]}" "${arguments[@]}"
