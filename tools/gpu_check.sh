#!/usr/bin/env bash
# Checks mmdyn on a machine with an NVIDIA GPU: sets the environment up if need be, runs the tests that a GPU can run,
# times both kinds of backbones beside their static parent, and writes one Markdown table of it:
#
#   bash tools/gpu_check.sh [FILE]     FILE: gpu_check.md by default
#
# RUNS (rounds of each measurement, 50) and SIZE (height and width in pixels, "800 1344") can be set.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
file=$(realpath -m "${1:-gpu_check.md}")
read -ra size <<< "${SIZE:-800 1344}"

if ! card=$(nvidia-smi --query-gpu=name --format=csv,noheader 2>/dev/null | head -1) || [[ -z $card ]]; then
    echo 'gpu_check.sh: expected a machine with an NVIDIA GPU, found none: nvidia-smi lists no card.' >&2
    exit 1
fi
python=$(bash "$root/tools/setup_env.sh")  # with the doctor's check that mmcv was compiled for the GPU
cd "$root"
export PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} MMDYN_TEST_DEVICE=cuda
"$python" -c 'import sys, torch; sys.exit(None if torch.cuda.is_available() else
    f"gpu_check.sh: {sys.executable} has PyTorch {torch.__version__}, which sees no GPU.")'

tests=0
"$python" -m pytest -q tests/test_gpu.py tests/functional tests/layers tests/backbones tests/losses || tests=$?

rows=$(mktemp)
trap 'rm -f "$rows"' EXIT
# time_backbone NAME BACKBONE [OPTION ...]: appends the rows of benchmark.py's table, behind the name and the options.
time_backbone() {
    local name=$1 backbone=$2
    shift 2
    "$python" tools/analysis_tools/benchmark.py "$backbone" --device cuda --batch 1 8 --size "${size[@]}" \
        --runs "${RUNS:-50}" --warm-up 10 "$@" | sed -n "s/^| \([a-z]\)/| $name | $* | \1/p" | tee -a "$rows"
}
for options in '' '--amp float16' '--amp float16 --channels-last'; do
    read -ra given <<< "$options"
    time_backbone AIG-R50 "dict(type='mmdyn.AIGResNet', depth=50, target_rates=0.6)" "${given[@]}"
    time_backbone DG-R50 "dict(type='mmdyn.DGResNet', depth=50)" "${given[@]}"
done
{
    echo "$card, PyTorch $("$python" -c 'import torch; print(torch.__version__)'); tests $( ((tests)) && echo failed || echo passed)"
    echo
    echo '| backbone | options | | batch | size | static | dynamic | ratio | MAC ratio | efficiency |'
    echo '|---|---|---|---|---|---|---|---|---|---|'
    cat "$rows"
} > "$file"
echo "written: $file"
exit "$tests"
