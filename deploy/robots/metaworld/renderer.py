"""Chooses how MuJoCo draws before it is imported: EGL in software, or OSMesa where EGL is missing.

`import mujoco` reads MUJOCO_GL once and fails when that back end cannot start; nothing can be changed afterwards, so
the fallback starts this process afresh.
"""

from __future__ import annotations

import os
import sys
import warnings


def prepare() -> None:
    """Call before anything imports mujoco. Leaves a MUJOCO_GL that the user set alone."""
    chosen = "MUJOCO_GL" in os.environ
    os.environ.setdefault("MUJOCO_GL", "egl")
    # llvmpipe would start a thread per core; robots share the cores with training.
    os.environ.setdefault("LP_NUM_THREADS", "1")
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    warnings.filterwarnings("ignore", message=".*(GLFW|glfw|precision lowered|Constant).*")
    try:
        import mujoco  # noqa: F401
    except Exception as error:  # the back ends raise whatever their loader raises
        if chosen:
            raise SystemExit(
                f"MuJoCo cannot draw with MUJOCO_GL={os.environ['MUJOCO_GL']}: {error}. "
                "Unset MUJOCO_GL, or run deploy/setup to install EGL and OSMesa."
            ) from error
        os.environ["MUJOCO_GL"] = "osmesa"
        os.environ["PYOPENGL_PLATFORM"] = "osmesa"
        os.execv(sys.executable, [sys.executable, *sys.orig_argv[1:]])
