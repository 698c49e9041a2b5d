"""A camera that draws one small image fast.

MuJoCo's defaults take 160 ms for 224 x 224 pixels on one core without a GPU: shadows, reflections and multisampling.
Without them it is about 10 ms, most of it the arm's 68,000 triangles.
"""

from __future__ import annotations

import mujoco
import numpy as np

NAME = "corner2"
# Closer than Meta-World's own position, so that a goal marker is more than a pixel; the crop that others train with.
POSITION = (0.75, 0.075, 0.7)
SIZE = 224


class Camera:
    """Draws what the camera of one environment sees. Belongs to the thread that made it."""

    def __init__(self, model: mujoco.MjModel, data: mujoco.MjData, size: int = SIZE):
        model.vis.quality.offsamples = 0
        model.vis.global_.offwidth = max(model.vis.global_.offwidth, size)
        model.vis.global_.offheight = max(model.vis.global_.offheight, size)
        model.cam_pos[model.camera(NAME).id] = POSITION
        self.model, self.data, self.size = model, data, size
        self._gl = mujoco.GLContext(size, size)
        self._gl.make_current()
        self._context = mujoco.MjrContext(model, mujoco.mjtFontScale.mjFONTSCALE_100)
        mujoco.mjr_setBuffer(mujoco.mjtFramebuffer.mjFB_OFFSCREEN, self._context)
        self._scene = mujoco.MjvScene(model, 2000)
        self._scene.flags[mujoco.mjtRndFlag.mjRND_SHADOW] = 0
        self._scene.flags[mujoco.mjtRndFlag.mjRND_REFLECTION] = 0
        self._options, self._perturbation = mujoco.MjvOption(), mujoco.MjvPerturb()
        self._camera = mujoco.MjvCamera()
        self._camera.type = mujoco.mjtCamera.mjCAMERA_FIXED
        self._camera.fixedcamid = model.camera(NAME).id
        self._view = mujoco.MjrRect(0, 0, size, size)
        self._pixels = np.empty((size, size, 3), np.uint8)

    def draw(self) -> np.ndarray:
        """The image now: size x size x 3 bytes, RGB, top row first; a copy."""
        self._gl.make_current()
        mujoco.mjv_updateScene(
            self.model,
            self.data,
            self._options,
            self._perturbation,
            self._camera,
            mujoco.mjtCatBit.mjCAT_ALL,
            self._scene,
        )
        mujoco.mjr_render(self._view, self._scene, self._context)
        mujoco.mjr_readPixels(self._pixels, None, self._view, self._context)
        # OpenGL's first row is the lowest, which is what an upside-down camera needs; only left and right are swapped.
        return np.ascontiguousarray(self._pixels[:, ::-1])

    def upload_texture(self, texture: int) -> None:
        """Shows a texture whose bytes in the model were changed."""
        self._gl.make_current()
        mujoco.mjr_uploadTexture(self.model, self._context, texture)

    def close(self) -> None:
        """Frees the graphics memory."""
        self._gl.make_current()
        self._context.free()
        self._gl.free()
