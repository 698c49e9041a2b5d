"""Domain randomisation: another friction, lighting, texture, colour, camera and table height in every trial.

Each trial starts from the model as Meta-World ships it, so that changes do not add up. The table moves relative to the
robot by moving the robot's base: moving the table itself breaks the scripted experts, which know its height.
"""

from __future__ import annotations

import mujoco
import numpy as np

from camera import NAME, Camera

_FIELDS = (
    "light_diffuse",
    "light_dir",
    "light_pos",
    "geom_friction",
    "geom_rgba",
    "mat_rgba",
    "body_pos",
    "cam_pos",
    "tex_data",
)
_TABLE_TEXTURE, _TABLE_MATERIAL, _FLOOR_MATERIAL = "T_table", "table_wood", "basic_floor"


class Randomizer:
    """Randomises one environment's model with strength 0 (nothing) to 1."""

    def __init__(self, model: mujoco.MjModel, camera: Camera):
        self._model, self._camera = model, camera
        self._nominal = {field: getattr(model, field).copy() for field in _FIELDS}
        self._ambient = model.vis.headlight.ambient.copy()
        self._changed = False

    def apply(self, strength: float, random: np.random.Generator) -> None:
        """Randomises for the next trial; call before the reset, which lets the arm settle."""
        if strength <= 0 and not self._changed:
            return
        for field, value in self._nominal.items():
            getattr(self._model, field)[...] = value
        self._model.vis.headlight.ambient[:] = self._ambient
        if strength > 0:
            self._light(strength, random)
            self._surfaces(strength, random)
            self._geometry(strength, random)
        texture = self._texture(strength, random)
        if texture is not None:
            self._camera.upload_texture(texture)
        self._changed = strength > 0

    def _light(self, strength: float, random: np.random.Generator) -> None:
        model = self._model
        shape = model.light_diffuse.shape
        gain = random.uniform(1 - 0.6 * strength, 1 + 0.8 * strength, shape)
        model.light_diffuse[:] = np.clip(model.light_diffuse * gain, 0, 1)
        # The lights are directional: only their direction changes the picture.
        direction = model.light_dir + random.normal(0, 0.3 * strength, shape)
        model.light_dir[:] = direction / np.linalg.norm(direction, axis=1, keepdims=True)
        model.vis.headlight.ambient[:] = self._ambient * random.uniform(1 - 0.4 * strength, 1 + 0.4 * strength)

    def _surfaces(self, strength: float, random: np.random.Generator) -> None:
        model = self._model
        model.geom_friction[:, 0] *= random.uniform(1 - 0.3 * strength, 1 + 0.3 * strength)
        plain = (model.geom_matid < 0) & (model.geom_rgba[:, 3] == 1)
        shade = random.normal(0, 0.12 * strength, (model.ngeom, 3))
        model.geom_rgba[plain, :3] = np.clip(model.geom_rgba[plain, :3] + shade[plain], 0, 1)
        for name in (_TABLE_MATERIAL, _FLOOR_MATERIAL):
            material = _find(model, mujoco.mjtObj.mjOBJ_MATERIAL, name)
            if material is not None:
                mixed = random.uniform(0.4, 1.0, 3)
                model.mat_rgba[material, :3] += strength * (mixed - model.mat_rgba[material, :3])

    def _geometry(self, strength: float, random: np.random.Generator) -> None:
        model = self._model
        model.body_pos[model.body("base").id, 2] += random.uniform(-0.02, 0.02) * strength
        model.cam_pos[model.camera(NAME).id] += random.normal(0, 0.01 * strength, 3)

    def _texture(self, strength: float, random: np.random.Generator) -> int | None:
        model = self._model
        texture = _find(model, mujoco.mjtObj.mjOBJ_TEXTURE, _TABLE_TEXTURE)
        if texture is None:
            return None
        if strength > 0:
            first = int(model.tex_adr[texture])
            size = int(model.tex_width[texture]) * int(model.tex_height[texture]) * int(model.tex_nchannel[texture])
            grain = random.normal(0, 20 * strength, size).astype(np.int16)
            base = model.tex_data[first : first + size].astype(np.int16)
            model.tex_data[first : first + size] = np.clip(base + grain, 0, 255).astype(np.uint8)
        return texture


def _find(model: mujoco.MjModel, kind: mujoco.mjtObj, name: str) -> int | None:
    index = mujoco.mj_name2id(model, kind, name)
    return index if index >= 0 else None
