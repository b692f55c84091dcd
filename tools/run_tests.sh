#!/usr/bin/env bash
# Sets the environment up if need be and runs the tests:  bash tools/run_tests.sh [--all] [pytest's options and tests]
#   --all   also what takes long, such as every configuration of mmdet instead of one per folder
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
exec "$python" -m pytest "${targets[@]}" "${arguments[@]}"
