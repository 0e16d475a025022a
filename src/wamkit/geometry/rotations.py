"""Forms of a rotation and their conversions (`ar.continuous-chunk`); 6D form: Zhou et al. 2019, section 4.

:func:`convert` and its two halves work on arrays in double precision, for recorded values. The functions that parts
use inside a model, matrices from quaternions and the 6D form, work on tensors and pass gradients.

Arrays are (..., n) with n the size of the form. Angles are in radians; ``euler_xyz`` rotates about the fixed axes x,
then y, then z, and the others in the order of their letters (turns about moving axes are those about fixed axes in the
opposite order, angles too). Quaternions are not normalised when read, have the real part first (``quaternion_wxyz``) or
last (``quaternion_xyzw``), and are returned with it non-negative; ``rot6d`` is the first two columns of the rotation
matrix, one after the other; ``matrix`` is the matrix row by row.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Literal, get_args

import numpy as np
import scipy
import torch
from torch import Tensor
from torch.nn import functional as F

from wamkit.errors import SpecError, did_you_mean

if TYPE_CHECKING:
    from scipy.spatial.transform import Rotation

Form = Literal[
    "euler_xyz", "euler_xzy", "euler_yxz", "euler_yzx", "euler_zxy", "euler_zyx", "axis_angle", "quaternion_wxyz",
    "quaternion_xyzw", "rot6d", "matrix",
]  # fmt: skip
FORMS: tuple[Form, ...] = get_args(Form)
ORDERS: Mapping[Form, Literal["xyz", "xzy", "yxz", "yzx", "zxy", "zyx"]] = {
    "euler_xyz": "xyz", "euler_xzy": "xzy", "euler_yxz": "yxz", "euler_yzx": "yzx", "euler_zxy": "zxy",
    "euler_zyx": "zyx",
}  # fmt: skip
SMALLEST = 1e-6  # length of a quaternion, sine of an angle and volume below which they are no rotation
SIZES: dict[Form, int] = {
    **dict.fromkeys(ORDERS, 3),
    "axis_angle": 3,
    "quaternion_wxyz": 4,
    "quaternion_xyzw": 4,
    "rot6d": 6,
    "matrix": 9,
}


def require_form(form: str) -> Form:
    """Check the name of a form; raises :class:`SpecError` with the nearest one."""
    for name in FORMS:
        if form == name:
            return name
    raise SpecError(f"rotation: unknown form {form!r}. {did_you_mean(form, FORMS)}")


def parse_rotation(values: np.ndarray, form: Form) -> Rotation:
    """Parse (n, size of the form) into n rotations. 6D values are made orthonormal by Gram-Schmidt.

    Raises:
        SpecError: the values have another size, or are no rotation, such as a quaternion of zeros.
    """
    values = np.asarray(values, dtype=np.float64)
    if values.ndim != 2 or values.shape[1] != SIZES[form]:
        raise SpecError(f"rotation: {form} needs (n, {SIZES[form]}) values, got shape {values.shape}")
    wrong = np.flatnonzero(~rotates(values, form))
    if len(wrong):
        raise SpecError(f"rotation: row {wrong[0]}, {values[wrong[0]].tolist()}, is no rotation as {form}")
    if form in ORDERS:
        return scipy.spatial.transform.Rotation.from_euler(ORDERS[form], values)
    if form == "axis_angle":
        return scipy.spatial.transform.Rotation.from_rotvec(values)
    if form in ("quaternion_wxyz", "quaternion_xyzw"):
        return scipy.spatial.transform.Rotation.from_quat(values, scalar_first=form == "quaternion_wxyz")
    if form == "rot6d":
        return scipy.spatial.transform.Rotation.from_matrix(from_six_d(torch.from_numpy(values)).numpy())
    return scipy.spatial.transform.Rotation.from_matrix(values.reshape(-1, 3, 3))


def rotates(values: np.ndarray, form: Form) -> np.ndarray:
    """Which of (..., size of the form) values are rotations, (...) bool: quaternions of zeros and mirrors are none."""
    fine: np.ndarray = np.isfinite(values).all(axis=-1)
    if form.startswith("quaternion"):
        fine &= np.linalg.norm(values, axis=-1) > SMALLEST
    elif form == "rot6d":
        first, second = values[..., :3], values[..., 3:]
        lengths = np.linalg.norm(first, axis=-1) * np.linalg.norm(second, axis=-1)
        fine &= np.linalg.norm(np.cross(first, second), axis=-1) > SMALLEST * lengths
    elif form == "matrix":
        fine &= np.linalg.det(values.reshape(*values.shape[:-1], 3, 3)) > SMALLEST
    return fine


def write(rotation: Rotation, form: Form) -> np.ndarray:
    """Write n rotations as (n, size of the form)."""
    if form in ORDERS:
        return rotation.as_euler(ORDERS[form])
    if form == "axis_angle":
        return rotation.as_rotvec()
    if form in ("quaternion_wxyz", "quaternion_xyzw"):
        return rotation.as_quat(canonical=True, scalar_first=form == "quaternion_wxyz")
    matrix = rotation.as_matrix()
    if form == "rot6d":
        return np.concatenate((matrix[:, :, 0], matrix[:, :, 1]), axis=1)
    return matrix.reshape(-1, 9)


def convert(values: np.ndarray, source: Form, target: Form) -> np.ndarray:
    """Convert rotations to another form, (..., size of source) -> (..., size of target)."""
    values = np.asarray(values)
    flat = write(parse_rotation(values.reshape(-1, values.shape[-1]), source), target)
    return flat.reshape(*values.shape[:-1], SIZES[target])


def from_quaternion(quaternion: Tensor) -> Tensor:
    """Quaternions (..., 4) as w, x, y, z -> rotation matrices (..., 3, 3).

    They need not be normalised. A zero quaternion (no object) gives the identity.
    """
    nothing = quaternion.norm(dim=-1, keepdim=True) < 1e-6
    identity = F.one_hot(torch.tensor(0, device=quaternion.device), 4).to(quaternion.dtype)
    w, x, y, z = F.normalize(torch.where(nothing, identity, quaternion), dim=-1).unbind(-1)
    rows = (
        torch.stack((1 - 2 * (y * y + z * z), 2 * (x * y - w * z), 2 * (x * z + w * y)), dim=-1),
        torch.stack((2 * (x * y + w * z), 1 - 2 * (x * x + z * z), 2 * (y * z - w * x)), dim=-1),
        torch.stack((2 * (x * z - w * y), 2 * (y * z + w * x), 1 - 2 * (x * x + y * y)), dim=-1),
    )
    return torch.stack(rows, dim=-2)


def six_d(matrix: Tensor) -> Tensor:
    """Rotation matrices (..., 3, 3) -> their first two columns (..., 6), which are continuous, unlike angles."""
    return matrix[..., :2].transpose(-1, -2).flatten(-2)


def from_six_d(values: Tensor) -> Tensor:
    """Inverse of :func:`six_d` by Gram-Schmidt (Zhou et al. 2019, eq. 15), for any two independent columns."""
    first = F.normalize(values[..., :3], dim=-1)
    second = values[..., 3:]
    second = F.normalize(second - (first * second).sum(dim=-1, keepdim=True) * first, dim=-1)
    return torch.stack((first, second, torch.linalg.cross(first, second, dim=-1)), dim=-1)
