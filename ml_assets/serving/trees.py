"""LightGBM's own prediction calls, through the C interface of its wheel.

The Python package is not imported: it costs seconds and 100 MB that a server does not need, and its `predict` adds
19 us to a row. The bits are those of `Booster.predict`.
"""

import ctypes
import importlib.util
import sys
import threading
from functools import cache
from pathlib import Path

import numpy as np

from ml_assets.errors import ArtefactError

_FLOAT64, _ROW_MAJOR, _NORMAL, _FROM_FIRST, _ALL = 1, 1, 0, 0, -1
# One thread whatever the machine: LightGBM's default of all cores cost 16 ms at p99 beside busy neighbours.
_PARAMETERS = b"num_threads=1"


class Trees:
    """A parsed model with one output. Parsing damaged text can kill the process: `trial` it in another one first."""

    def __init__(self, model_text: str) -> None:
        self._booster = _Booster(model_text)
        self._threads = threading.local()
        self.n_inputs = self._booster.n_inputs

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        """Score a float64 matrix `[n_rows, n_inputs]`; any thread may call, one row takes LightGBM's fast path."""
        if len(matrix) == 1:
            return np.array([self._fast_row().predict(matrix)])
        return self._booster.predict(np.ascontiguousarray(matrix, dtype=np.float64))

    def _fast_row(self) -> "_FastRow":
        # A handle shared by threads gave 431 wrong answers in 16,000 (facts/serving.md 3.1).
        fast_row = getattr(self._threads, "fast_row", None)
        if fast_row is None:
            fast_row = self._threads.fast_row = _FastRow(self._booster)
        return fast_row


class _Booster:
    """The native model; freed with its last user, so that a swap never takes it from under a running prediction."""

    def __init__(self, model_text: str) -> None:
        self.handle, self._free = ctypes.c_void_p(), _library().LGBM_BoosterFree
        iterations, inputs, classes = ctypes.c_int(), ctypes.c_int(), ctypes.c_int()
        text = model_text.encode()
        _call("LGBM_BoosterLoadModelFromString", text, ctypes.byref(iterations), ctypes.byref(self.handle))
        _call("LGBM_BoosterGetNumFeature", self.handle, ctypes.byref(inputs))
        _call("LGBM_BoosterGetNumClasses", self.handle, ctypes.byref(classes))
        if classes.value != 1:
            raise ArtefactError(f"The model has {classes.value} outputs; only models with one output can be served.")
        self.n_inputs = inputs.value

    def predict(self, matrix: np.ndarray) -> np.ndarray:
        scores, length = np.empty(len(matrix)), ctypes.c_int64()
        shape = ctypes.c_int32(matrix.shape[0]), ctypes.c_int32(matrix.shape[1])
        what = _NORMAL, _FROM_FIRST, _ALL, _PARAMETERS
        output = ctypes.byref(length), ctypes.c_void_p(scores.ctypes.data)
        data = ctypes.c_void_p(matrix.ctypes.data)
        _call("LGBM_BoosterPredictForMat", self.handle, data, _FLOAT64, *shape, _ROW_MAJOR, *what, *output)
        return scores

    def __del__(self) -> None:
        if self.handle:
            self._free(self.handle)


class _FastRow:
    """The configuration and buffers of one thread for single rows."""

    def __init__(self, booster: _Booster) -> None:
        self._booster, self._config = booster, ctypes.c_void_p()
        self._free = _library().LGBM_FastConfigFree
        self._row, self._score, self._length = np.empty(booster.n_inputs), ctypes.c_double(), ctypes.c_int64()
        what = _NORMAL, _FROM_FIRST, _ALL, _FLOAT64, ctypes.c_int32(booster.n_inputs), _PARAMETERS
        name = "LGBM_BoosterPredictForMatSingleRowFastInit"
        _call(name, booster.handle, *what, ctypes.byref(self._config))
        output = ctypes.byref(self._length), ctypes.byref(self._score)
        self._arguments = self._config, ctypes.c_void_p(self._row.ctypes.data), *output

    def predict(self, row: np.ndarray) -> float:
        self._row[:] = row[0]
        _call("LGBM_BoosterPredictForMatSingleRowFast", *self._arguments)
        return self._score.value

    def __del__(self) -> None:
        if self._config:
            self._free(self._config)


def _call(name: str, *arguments: object) -> None:
    if getattr(_library(), name)(*arguments):
        raise ArtefactError(f"LightGBM refuses the model: {_library().LGBM_GetLastError().decode(errors='replace')}")


@cache
def _library() -> ctypes.CDLL:
    spec = importlib.util.find_spec("lightgbm")
    if spec is None or spec.origin is None:
        raise ArtefactError("LightGBM is not installed here: install the package `lightgbm`.")
    suffix = {"darwin": "dylib", "win32": "dll"}.get(sys.platform, "so")
    found = sorted(Path(spec.origin).parent.glob(f"**/*lib_lightgbm.{suffix}"))
    if not found:
        raise ArtefactError(
            f"The LightGBM at {Path(spec.origin).parent} has no lib_lightgbm.{suffix}: install its wheel."
        )
    library = ctypes.CDLL(str(found[0]))
    library.LGBM_GetLastError.restype = ctypes.c_char_p
    return library
