"""Pickle an .npz of SMPL's arrays with the real chumpy: run by a test in an environment that has it.

python chumpy_writer.py ARRAYS.npz OUT.pkl
"""

import inspect
import pickle
import sys
from collections import namedtuple

import numpy as np
from scipy import sparse

# chumpy was written for Python 2 and numpy 1: give it the names it imports.
inspect.getargspec = lambda f: namedtuple("Spec", "args varargs keywords defaults")(*inspect.getfullargspec(f)[:4])
for name, kind in [(k.__name__, k) for k in (bool, int, float, complex, object, str)] + [("unicode", str)]:
    setattr(np, name, kind)

import chumpy  # noqa: E402

arrays_path, out_path = sys.argv[1:]
with np.load(arrays_path) as arrays:
    data = {key: arrays[key] for key in arrays.files}
for key in ("v_template", "posedirs", "weights"):
    data[key] = chumpy.array(data[key])
data["shapedirs"] = chumpy.array(data["shapedirs"])[:, :, :10]
data["J_regressor"] = sparse.csc_matrix(data["J_regressor"])
with open(out_path, "wb") as file:
    pickle.dump(data, file, protocol=2)
