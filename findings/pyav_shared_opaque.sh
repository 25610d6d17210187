#!/usr/bin/env bash
# PyAV 18.1.0: an object that is the `opaque` of two frames is lost for both when one of them is freed.
#
# The good guess: `frame.opaque = token` (and `packet.opaque = token`, which a decoder with copy_opaque hands on to its frames) keeps a reference
# to the object for each frame that has it, so that every frame has it for as long as the frame lives.
# What happens: the binding keeps one entry for an object, whatever the number of frames that carry it. The first frame that is freed takes the
# entry away, and `opaque` of the others is None from then on. Small integers are the same object in CPython, so that it also strikes two frames that
# were given equal numbers, such as arrival times in milliseconds.
# Why it matters: `opaque` is how a pipeline passes arrival times and IDs through decoders and filters, which keep frames for a while. A filter such
# as bwdif gives out frames that carry the object of a frame that is freed meanwhile: times vanish, now and then, depending on when Python frees.
# What helps: a new object for each frame (rtpose makes one), or a dictionary by time stamp.
set -euo pipefail
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/env"
"$folder/env/bin/python" -m pip install -q --disable-pip-version-check av==18.1.0 numpy==2.4.6
"$folder/env/bin/python" - <<'PYTHON'
import gc
import sys

import av
import numpy as np

print("Python", sys.version.split()[0], "av", av.__version__)


def frame(opaque):
    made = av.VideoFrame.from_ndarray(np.zeros((48, 64, 3), np.uint8), "rgb24")
    made.opaque = opaque
    return made


token = object()
first, second = frame(token), frame(token)
print("before:", first.opaque is token, second.opaque is token)
del first
gc.collect()
print("one of them freed:", second.opaque)

apart = [frame(object()), frame(object())]
del apart[0]
gc.collect()
print("objects of their own, one freed:", apart[0].opaque is not None)

numbers = [frame(7), frame(7)]
del numbers[0]
gc.collect()
print("equal small numbers, one freed:", numbers[0].opaque)
sys.exit(not (second.opaque is None and apart[0].opaque is not None and numbers[0].opaque is None))
PYTHON
