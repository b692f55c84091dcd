#!/usr/bin/env bash
# Makes the reference environment, once, and prints the path of its python as the only line of its standard output:
#
#   python=$(bash tools/setup_env.sh)
#
#   --stack openmmlab   OpenMMLab's last releases, on Python 3.10, instead of OneDL's maintained ones on Python 3.11
#
#   MMDYN_VENV     where to make it; .venv in this checkout by default (.venv-openmmlab for that stack)
#   MMDYN_PYTHON   the python of an environment that is there already: it is checked and nothing is installed
#
# An interrupted run is taken up where it stopped. mmdyn itself is not installed into the environment: an install points
# at one checkout, and an environment named by MMDYN_VENV outlives checkouts (continuous integration clones anew each
# time) and may serve several. The scripts here put their checkout on PYTHONPATH instead.
set -euo pipefail

say() { echo "[setup] $*" >&2; }
fail() { say "$*"; exit 1; }

stack=onedl
while (($#)); do
    case $1 in
        --stack) stack=${2:-none}; [[ $# -lt 2 ]] || shift ;;
        *) fail "unknown argument '$1': expected --stack onedl or --stack openmmlab, or none; the variables MMDYN_VENV and" \
            'MMDYN_PYTHON say what to use.' ;;
    esac
    shift
done

# Three equals signs keep pip from picking a local CPU build of torch that torchvision cannot load.
case $stack in
    onedl)
        python_version=3.11 mmcv=onedl-mmcv mmcv_version=2.3.6 folder=.venv
        numpy='numpy<2.3'
        torch=('torch===2.13.0' 'torchvision===0.28.0')
        framework=('onedl-mmengine==0.10.12' 'onedl-mmdetection==3.5.1' 'onedl-mmpretrain==1.3.6'
            'onnx' 'onnxscript' 'onnxruntime') ;;
    openmmlab)
        python_version=3.10 mmcv=mmcv mmcv_version=2.1.0 folder=.venv-openmmlab
        numpy='numpy==1.26.4'
        torch=('torch===2.1.2' 'torchvision===0.16.2')
        # Later releases of OpenCV want numpy 2; BoxInst needs scikit-image, which mmdet does not ask for.
        framework=('mmengine==0.10.7' 'mmdet==3.3.0' 'mmpretrain==1.2.0' 'opencv-python<4.11' 'scikit-image') ;;
    *) fail "unknown stack '$stack': expected onedl or openmmlab." ;;
esac
build_tools=('setuptools<81' 'wheel' 'ninja' 'psutil' "$numpy")
framework+=("$mmcv==$mmcv_version")
test_tools=('pytest' 'pytest-xdist' 'hypothesis' 'safetensors' 'scikit-learn' 'torchattacks==3.5.1' 'grad-cam'
    'ruff' 'mypy')
everything=("${build_tools[@]}" "${torch[@]}" "${framework[@]}" "${test_tools[@]}")

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
with_mmdyn=$root${PYTHONPATH:+:$PYTHONPATH}

pip() { "$python" -m pip --disable-pip-version-check "$@" >&2; }
doctor() { PYTHONPATH=$with_mmdyn "$python" -m mmdyn.doctor; }

# Are all requirements met, to the letter? The real state is asked, where a stamp could be out of date.
versions_match() {
    "$python" -c '
import sys
from importlib.metadata import version
from packaging.requirements import Requirement
for requirement in map(Requirement, sys.argv[1:]):
    installed = version(requirement.name)
    # A local build, 2.13.0+cpu, serves as its plain version does, if the doctor finds that it works.
    if not any(requirement.specifier.contains(found, True) for found in (installed, installed.split("+")[0])):
        sys.exit(1)' "${everything[@]}" 2>/dev/null
}

mmcv_works() {
    PYTHONPATH=$with_mmdyn "$python" -c '
import sys
from importlib.metadata import version
from mmdyn.doctor import run_cuda_operators, run_operators
run_operators()
run_cuda_operators()
sys.exit(version(sys.argv[1]) != sys.argv[2])' "$mmcv" "$mmcv_version" &>/dev/null
}

# Is this the Python that the stack needs, with what else is named?
is_python() { "$1" -c "import sys${2:+, $2}; sys.exit('%d.%d' % sys.version_info[:2] != '$python_version')" 2>/dev/null; }

find_python() {
    local candidate
    for candidate in "python$python_version" python3 python; do
        if is_python "$candidate" 'venv, ensurepip'; then
            echo "$candidate"
            return
        fi
    done
    fail "expected Python $python_version with its venv module as python$python_version or python3, found none: install it" \
        "(on Debian and Ubuntu the packages python$python_version, python$python_version-venv and" \
        "python$python_version-dev), or set MMDYN_PYTHON to the python of an environment that has the stack."
}

make_venv() {
    local base
    if [[ ! -e $venv/pyvenv.cfg && -n $(find "$venv" -type f ! -name .lock -print -quit) ]]; then
        fail "expected a virtual environment or an empty folder in $venv, found something else: set MMDYN_VENV."
    fi
    if [[ -x $python ]] && ! is_python "$python"; then
        fail "expected Python $python_version in $venv, found $("$python" --version 2>&1): remove the folder, or set MMDYN_VENV."
    fi
    if ! "$python" -m pip --version &>/dev/null; then
        base=$(find_python)
        say "making a virtual environment in $venv"
        "$base" -m venv "$venv" >&2
    fi
}

# Every 30 seconds says how far ninja is, until it is ended or the script is gone.
show_progress() {
    local source=$1 header=$2 all done why=''
    while sleep 30 &>/dev/null && kill -0 $$ 2>/dev/null; do
        if [[ -z $why ]] && why=$(cat "$header"/*/failed 2>/dev/null | head -n 1); then
            say "no precompiled header with this compiler, so that this takes about 7 minutes: $why"
        fi
        all=$(cat "$source"/build/temp*/build.ninja 2>/dev/null | grep -c '^build .*\.o:') || true
        done=$(find "$source"/build/temp* -name '*.o' 2>/dev/null | wc -l) || true
        say "mmcv: $done of ${all/#0/?} files compiled"
    done
}

# Leaves a wheel of mmcv in a folder. With pip's build isolation mmcv would come without its operators, and nothing
# would say so. The source folder stays where it is, so that ninja goes on after an interruption with what is missing.
compile_mmcv() {
    local wheels=$1 source=$venv/mmcv-build/${mmcv/-/_}-$mmcv_version log=$venv/mmcv-build/build.log progress made
    local header=$venv/mmcv-build/header
    if [[ ! -d $source ]]; then
        say "downloading the source of mmcv $mmcv_version"
        rm -rf "$venv/mmcv-build/unpacked"
        mkdir -p "$venv/mmcv-build/unpacked"
        pip download --no-deps --no-binary :all: --no-build-isolation -d "$venv/mmcv-build" "$mmcv==$mmcv_version"
        tar -xzf "$source.tar.gz" -C "$venv/mmcv-build/unpacked"
        mv "$venv/mmcv-build/unpacked/$(basename "$source")" "$source"
    fi
    say "compiling mmcv's operators on $(nproc) cores, which takes about 4 minutes on two; log: $log"
    show_progress "$source" "$header" >&2 9>&- &
    progress=$!
    # PyTorch's headers are precompiled, once and by the first file; of an interrupted run, what is whole serves again.
    mkdir -p "$header"
    for made in "$header"/*/; do
        compgen -G "$made*.gch" >/dev/null || rm -rf "$made"
    done
    install -m 755 "$root/tools/cxx_with_header.sh" "$header/g++"  # PyTorch looks at the name of the compiler
    rm -rf "$wheels.partial"
    # Python's own flags, -g -O3, take more than twice as long for operators that are no faster.
    if ! (cd "$source" && PATH=$venv/bin:$PATH MMCV_WITH_OPS=1 MAX_JOBS=${MAX_JOBS:-$(nproc)} \
        REAL_CXX=${CXX:-c++} CXX=$header/g++ HEADER_FOLDER=$header \
        HEADER=$source/mmcv/ops/csrc/common/pytorch_cpp_helper.hpp \
        CFLAGS="${CFLAGS:-} -g0 -O2" "$python" setup.py bdist_wheel --dist-dir "$wheels.partial") &>"$log"; then
        kill "$progress" || true
        tail -n 30 "$log" >&2
        fail "compiling mmcv failed; the whole log is in $log. It needs a C++ compiler and Python's headers (on Debian" \
            'and Ubuntu the packages g++ and python'"$python_version"'-dev). Start again to go on from here.'
    fi
    kill "$progress" || true
    mv "$wheels.partial" "$wheels"
    rm -rf "$header"
}

install_everything() {
    local build wheels
    say 'installing torch (some gigabytes to download the first time)'
    pip install "${build_tools[@]}"
    pip install "${build_tools[@]}" "${torch[@]}"
    if ! mmcv_works; then
        # Operators fit one version of torch, and a GPU or none.
        build=$("$python" -c 'import torch; print(torch.__version__, "cuda" if torch.cuda.is_available() else "cpu")')
        wheels=$venv/mmcv-build/wheels-$mmcv_version-torch-${build/ /-}
        [[ -d $wheels ]] || compile_mmcv "$wheels"
        pip install --force-reinstall --no-deps "$wheels"/*.whl
    fi
    say 'installing the rest'
    # All in one go, or a later requirement could move what an earlier one has settled.
    pip install "${everything[@]}"
    say 'checking that it works'
    doctor >&2 || fail "the environment in $venv is complete and does not work, see above."
}

if [[ -n ${MMDYN_PYTHON:-} ]]; then
    python=$(command -v "$MMDYN_PYTHON") || fail "expected a python in MMDYN_PYTHON, got '$MMDYN_PYTHON'."
    doctor >&2 || fail "the environment of MMDYN_PYTHON=$MMDYN_PYTHON cannot be used, see above."
    echo "$(cd "$(dirname "$python")" && pwd)/$(basename "$python")"
    exit
fi

mkdir -p "${MMDYN_VENV:-$root/$folder}"
venv=$(cd "${MMDYN_VENV:-$root/$folder}" && pwd)
python=$venv/bin/python
if command -v flock >/dev/null; then
    exec 9>"$venv/.lock"
    flock --nonblock 9 || { say "waiting for another setup of $venv to end"; flock 9; }
fi
if ! { versions_match && doctor >/dev/null 2>&1; }; then
    make_venv
    install_everything
fi
if [[ -z ${MMDYN_VENV:-} ]]; then
    # This folder belongs to this checkout alone, so its python may find mmdyn without PYTHONPATH.
    echo "$root" > "$("$python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/mmdyn.pth"
fi
echo "$python"
