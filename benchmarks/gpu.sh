#!/bin/sh
# For somebody with an NVIDIA GPU: build every engine, check it, measure every network and the whole program, and write one file to
# send back.
#
#     benchmarks/gpu.sh [gpu.json]
#
# Needs Python 3.10 or newer with TensorRT and a torch that knows CUDA. What is missing is installed into .venv-gpu, which sees the
# system's packages (on a Jetson, JetPack's TensorRT). PYTHON names another Python.
set -eu
cd "$(dirname "$0")/.."
report=${1:-gpu.json}
venv=.venv-gpu
if [ ! -x "$venv/bin/python" ]; then
    "${PYTHON:-python3}" -m venv --system-site-packages "$venv"
    "$venv/bin/python" -m pip install -q . onnx scikit-image
fi
python=$venv/bin/python
has() { "$python" -c "import $1" 2>/dev/null; }
if ! has torch; then "$python" -m pip install -q torch; fi
if ! has tensorrt && ! has tensorrt_rtx; then
    if [ -e /etc/nv_tegra_release ]; then
        echo "JetPack's TensorRT is missing: see engines/JETSON.md" >&2
        exit 1
    fi
    "$python" -m pip install -q tensorrt
fi
[ -e out/demo.mp4 ] || "$python" scripts/make_demo_clip.py out/demo.mp4 600
exec "$python" benchmarks/gpu.py --json "$report" --clip out/demo.mp4
