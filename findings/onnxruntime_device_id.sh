#!/usr/bin/env bash
# onnxruntime 1.32.0 (the CPU wheel for Linux): the first session leaves a device ID and a database in the user's cache folder.
#
# The good guess: on Linux the CPU wheel reads the model and computes; telemetry is a matter of the builds for Windows, as it was for years, and
# `disable_telemetry_events()` is the switch.
# What happens: loading one small network makes ~/.cache/Microsoft/DeveloperTools/.onnxruntime/deviceid and onnxruntime.db. The call comes too
# late for that; the variable ORT_DISABLE_TELEMETRY=1, set before the import, prevents both (both are in the wheel's Privacy.md).
# Why it matters: programs that promise to write only into folders of their own, read-only homes and reproducible containers meet files that no line
# of theirs made, from a minor release on. A library that embeds onnxruntime must set the variable before anybody imports it.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q --disable-pip-version-check onnxruntime==1.32.0 onnx==1.21.0
cat >"$folder/run.py" <<'PYTHON'
import sys

import onnx
import onnxruntime
from onnx import TensorProto, helper

values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [1]) for name in "xy"]
graph = helper.make_graph([helper.make_node("Neg", ["x"], ["y"])], "g", values[:1], values[1:])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)
if "late" in sys.argv:
    onnxruntime.disable_telemetry_events()
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
print("onnxruntime", onnxruntime.__version__, "onnx", onnx.__version__)
PYTHON
left_by() { # NAME [VARIABLE=VALUE] -- arguments
    home="$folder/home-$1"
    mkdir "$home"
    (cd "$home" && env -i PATH="$PATH" HOME="$home" ${2:+"$2"} "$folder/env/bin/python" "$folder/run.py" "${@:3}")
    find "$home" -type f | sed "s|$home|~|" | sort
}
echo "== as it is"; plain=$(left_by plain ""); echo "$plain"
echo "== disable_telemetry_events() after the import"; late=$(left_by late "" late); echo "$late"
echo "== ORT_DISABLE_TELEMETRY=1"; off=$(left_by off ORT_DISABLE_TELEMETRY=1); echo "$off"
grep -q deviceid <<<"$plain" && grep -q deviceid <<<"$late" && ! grep -q deviceid <<<"$off"
