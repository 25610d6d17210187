"""Bodies in their room: meshes over a ground grid, the camera's frustum, the picture beside them, in a window or without one.

Open3D renders off screen (on a GPU, or by Mesa's llvmpipe where there is none), what it drew is composed with the picture and a line
of text, and OpenCV shows it. So the same pixels come about with and without a display.

Where the ground is, and which way is down, comes from people's feet: see `room`.
"""

from __future__ import annotations

import math
import os
import tempfile
import time
from collections import deque
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from fractions import Fraction
from pathlib import Path
from types import ModuleType
from typing import Any, Literal

import cv2
import numpy as np
from numpy.typing import NDArray

from ..body.camera import Camera
from ..body.model import Lifted
from ..errors import InputError, RtposeError, Stop
from ..pixels import PixelScale
from ..render import colour_of, draw
from ..settings import PARTS
from ..types import F32, F64, U8, Frame, Result
from . import check_output, replacing
from .room import Room
from .window import closed

SIZE = (1120, 640)
"""Width and height of the view, px."""

TITLE = "rtpose"
HELP = "drag: orbit  wheel: zoom  f: follow  c: camera  r: reset  m: mesh/skeleton  space: pause  s: screenshot  q: quit"

_BACKGROUND = (0.10, 0.11, 0.13)
_GRID, _GRID_FAR = np.array([0.36, 0.38, 0.42]), np.array(_BACKGROUND)
_FRUSTUM = (0.85, 0.86, 0.88)
_DIMMED = 0.72
"""Open3D's four lamps together would bleach colours taken as they are."""
_SHADOW = (0.035, 0.038, 0.045)
_FIELD = 42
"""Degrees of the view from top to bottom."""
_FAR = 9
"""Metres between the camera and the people from which on the first view leaves the camera out."""

Mode = Literal["mesh", "skeleton"]


@dataclass(frozen=True)
class _Posed:
    """A person as drawn: joints (22, 3) and vertices (v, 3), metres in the camera frame."""

    joints: F64
    vertices: F32


@dataclass
class Orbit:
    """A camera that turns about a point: azimuth and elevation in radians, distance in metres, target (3,) in the room.

    Azimuth 0 looks along the video camera's axis, positive ones from its left; a positive elevation looks down.
    """

    target: F64
    distance: float
    azimuth: float = 0.0
    elevation: float = 0.0

    def turn(self, right: float, down: float) -> None:
        self.azimuth += right
        self.elevation = float(np.clip(self.elevation + down, math.radians(-5), math.radians(89)))

    def zoom(self, factor: float) -> None:
        self.distance = float(np.clip(self.distance * factor, 0.5, 60))

    def extrinsic(self) -> F64:
        """(4, 4): room -> view, x right, y down, z forward."""
        a, e = self.azimuth, self.elevation
        forward = np.array([math.sin(a) * math.cos(e), math.sin(e), math.cos(a) * math.cos(e)])
        right = np.array([math.cos(a), 0.0, -math.sin(a)])
        turn = np.stack([right, np.cross(forward, right), forward])
        matrix = np.eye(4)
        matrix[:3, :3] = turn
        matrix[:3, 3] = -turn @ (self.target - forward * self.distance)
        return matrix


def import_open3d() -> ModuleType:
    """Open3D, or an InputError that says how to get it."""
    try:
        import open3d
    except ModuleNotFoundError:
        raise InputError("the 3D viewer needs Open3D: pip install 'rtpose[viewer]'") from None
    except (ImportError, OSError) as error:
        raise InputError(f"Open3D does not load ({error}): apt install libusb-1.0-0 libegl1 libgl1") from None
    return open3d


@contextmanager
def _runtime_folder() -> Iterator[None]:
    """Wayland's library, which EGL asks whether there is a display, calls it an error where no session has set this folder."""
    if os.environ.get("XDG_RUNTIME_DIR"):
        yield
        return
    with tempfile.TemporaryDirectory(prefix="rtpose-") as folder:
        os.environ["XDG_RUNTIME_DIR"] = folder
        try:
            yield
        finally:
            del os.environ["XDG_RUNTIME_DIR"]


class Scene:
    """What Open3D draws: named meshes and lines, rendered into a picture. Belongs to the thread that made it."""

    def __init__(self, width: int, height: int) -> None:
        self._o3d = import_open3d()
        self.width, self.height = width, height
        self._vis = self._o3d.visualization.Visualizer()
        # What Open3D has to say about missing displays is of no use to anybody: without one it renders off screen.
        with self._o3d.utility.VerbosityContextManager(self._o3d.utility.VerbosityLevel.Error), _runtime_folder():
            made = self._vis.create_window("rtpose scene", width, height, visible=False)
        if not made:
            raise RtposeError("Open3D cannot render here: it needs OpenGL or EGL (apt install libegl1 libgl1)")
        option = self._vis.get_render_option()
        option.background_color = np.array(_BACKGROUND)
        option.mesh_show_back_face = False
        option.mesh_shade_option = self._o3d.visualization.MeshShadeOption.Color  # that is, smooth
        self._shapes: dict[str, tuple[Any, int]] = {}

    @property
    def names(self) -> set[str]:
        """What is in the scene."""
        return set(self._shapes)

    def mesh(self, name: str, vertices: NDArray[Any], faces: NDArray[np.int32], colour: tuple[float, float, float]) -> None:
        """Add the shaded mesh `name`, or move its vertices where it has the same faces as before. colour: RGB, 0..1."""
        points = self._o3d.utility.Vector3dVector(np.asarray(vertices, np.float64))
        shape, key = self._shapes.get(name, (None, 0))
        if shape is not None and key == id(faces):
            shape.vertices = points
            shape.compute_vertex_normals()
            self._vis.update_geometry(shape)
            return
        self.remove(name)
        shape = self._o3d.geometry.TriangleMesh(points, self._o3d.utility.Vector3iVector(faces))
        shape.compute_vertex_normals()
        shape.paint_uniform_color(colour)
        self._add(name, shape, id(faces))

    def lines(self, name: str, points: F64, pairs: NDArray[np.int32], colours: F64) -> None:
        """Add the lines `name` between pairs (l, 2) of points (p, 3), colours (l, 3); in place of those it had."""
        self.remove(name)
        shape = self._o3d.geometry.LineSet(self._o3d.utility.Vector3dVector(points), self._o3d.utility.Vector2iVector(pairs))
        shape.colors = self._o3d.utility.Vector3dVector(colours)
        self._add(name, shape, 0)

    def remove(self, name: str) -> None:
        if name in self._shapes:
            self._vis.remove_geometry(self._shapes.pop(name)[0], reset_bounding_box=False)

    def render(self, extrinsic: F64, camera: Camera) -> U8:
        """The scene (height, width, 3) RGB as a camera sees it that stands where `extrinsic` (4, 4) says."""
        parameters = self._o3d.camera.PinholeCameraParameters()
        parameters.intrinsic = self._o3d.camera.PinholeCameraIntrinsic(
            self.width, self.height, camera.fx, camera.fy, camera.cx, camera.cy
        )
        parameters.extrinsic = extrinsic
        control = self._vis.get_view_control()
        control.convert_from_pinhole_camera_parameters(parameters, allow_arbitrary=True)
        control.set_constant_z_near(0.05)
        control.set_constant_z_far(100.0)
        shot = np.asarray(self._vis.capture_screen_float_buffer(do_render=True))
        return np.asarray(cv2.convertScaleAbs(shot, alpha=255))

    def close(self) -> None:
        for name in list(self._shapes):
            self.remove(name)
        self._vis.destroy_window()

    def _add(self, name: str, shape: Any, key: int) -> None:
        self._shapes[name] = shape, key
        self._vis.add_geometry(shape, reset_bounding_box=len(self._shapes) == 1)


class ViewerSink:
    """Shows the newest result. Without a window it renders the same view when it is asked for (`picture`, `screenshot`).

    lifted: what `Result.bodies` was fitted with, None where nothing lifts. detail: the mesh that is drawn, `light` or `full`.
    screenshot: where the last view is written when the run ends. size: of the view, px. pixel_aspect: of the pictures. Where
    results carry no bodies, the picture fills the view. parts, mirror: of the picture, as for `draw`; the room is not mirrored. Raises
    InputError where Open3D is missing or the screenshot cannot be written.
    """

    name = "view"
    latest = True
    main_thread = True

    def __init__(
        self,
        lifted: Lifted | None,
        *,
        window: bool = True,
        detail: str = "light",
        screenshot: Path | None = None,
        overwrite: bool = False,
        size: tuple[int, int] = SIZE,
        pixel_aspect: Fraction | float = 1.0,
        parts: Collection[str] = PARTS,
        mirror: bool = False,
    ) -> None:
        self._parts, self._mirror = parts, mirror
        import_open3d()
        if screenshot is not None:
            check_output(screenshot, (".png", ".jpg", ".jpeg"), overwrite=overwrite)
        self._lifted, self._detail, self._aspect = lifted, detail, pixel_aspect
        self._window, self._screenshot, (self.width, self.height) = window, screenshot, size
        self.mode: Mode = "mesh"
        self.paused = False
        self.followed: int | None = None
        self.from_camera = False
        self.view = Orbit(np.array([0.0, 0.0, 3.0]), 6.0)
        self._home = True
        self._empty: U8 = np.full((self.height, self.width, 3), 255 * np.array(_BACKGROUND), np.uint8)
        self._result: Result | None = None
        self._people: dict[int, _Posed] = {}
        self._picture: U8 | None = None
        self._room = Room()
        self._reach = 6
        self._shown: deque[float] = deque(maxlen=31)
        self._latency = 0.0
        self._said, self._said_until = "", 0.0
        self._drag: tuple[int, int] | None = None
        self._stale = False
        self._opened = False
        self._over = False
        self._shots = 0
        focal = 0.5 * self.height / math.tan(math.radians(_FIELD) / 2)
        self._lens = Camera(focal, focal, (self.width - 1) / 2, (self.height - 1) / 2)
        self._scene: Scene | None = None
        if lifted is not None:
            self._bones = _Sticks(lifted.body.parents)
            self._scene = Scene(self.width, self.height)
            # What Open3D does when it first draws takes long, and a live source must not wait for that.
            self._scene.lines("grid", *_grid(self._room, self._reach))
            self._scene.mesh("somebody", self._bones(lifted.body.joints), self._bones.faces, _SHADOW)
            self._scene.render(self._extrinsic(), self._lens)

    def write(self, result: Result) -> None:
        if self._over:
            return
        if not self.paused:
            self._result = result
            self._place(result)
            self._shown.append(time.monotonic())
            self._stale = True
        self.idle()
        if not self.paused:
            self._latency = (time.monotonic_ns() - result.frame.arrival) * 1e-9

    def idle(self) -> None:
        """Redraw what the mouse or the keys have changed, and hear the window. Raises Stop when it was closed."""
        if self._over or not self._window:
            return
        if self._stale:
            self._show(self.picture)
        if self._opened:
            self._hear()

    def close(self) -> None:
        try:
            if self._screenshot is not None and self._result is not None:
                self.screenshot(self._screenshot)
        finally:
            if self._scene is not None:
                self._scene.close()
                self._scene = None
            if self._opened:
                self._opened = False
                cv2.destroyAllWindows()
                cv2.waitKey(1)

    @property
    def picture(self) -> U8:
        """What is shown, or would be in a window: (height, width, 3) RGB. Raises RuntimeError before the first result."""
        if self._result is None:
            raise RuntimeError("nothing was shown yet")
        if self._stale or self._picture is None:
            self._stale = False
            self._picture = self._compose(self._result)
        return self._picture

    def screenshot(self, path: Path) -> None:
        """Write what is shown as a picture. Raises RtposeError where that is not possible."""
        try:
            data = cv2.imencode(path.suffix, cv2.cvtColor(self.picture, cv2.COLOR_RGB2BGR))[1]
            with replacing(path) as file:
                file.write(data.tobytes())
        except cv2.error:
            raise InputError(f"cannot write the screenshot {path}: end its name with .png or .jpg") from None
        except OSError as error:
            raise RtposeError(f"cannot write the screenshot {path}: {error.strerror}") from None

    def toggle(self) -> None:
        """Meshes become skeletons and the other way round."""
        self.mode = "skeleton" if self.mode == "mesh" else "mesh"
        self._stale = self._result is not None

    def follow(self) -> None:
        """Follow the next person, or nobody after the last."""
        ids = [] if self._result is None else sorted(self._result.people.ids.tolist())
        later = [i for i in ids if self.followed is None or i > self.followed]
        self.followed = later[0] if later else None
        self.from_camera = False
        self._stale = self._result is not None

    def reset(self) -> None:
        """Go back to the first view."""
        self._home, self.followed, self.from_camera = True, None, False
        self._stale = self._result is not None

    def look_from_camera(self) -> None:
        """Show the picture with the bodies in it, as the video's camera sees them, or the room again."""
        self.from_camera = not self.from_camera
        self._stale = self._result is not None

    def pause(self) -> None:
        """Hold the picture, or go on. Results that arrive meanwhile are not shown."""
        self.paused = not self.paused
        self._stale = self._result is not None

    # What is shown -------------------------------------------------------------------------------------------------------------

    def _place(self, result: Result) -> None:
        """Pose the bodies, and bring the ground and the people's centre up to date."""
        bodies, self._people = result.bodies, {}
        if result.frame.independent:
            self._room, self._home = Room(), True
        if bodies is None or self._lifted is None:
            return
        for i, identity in enumerate(result.people.ids.tolist()):
            vertices = self._lifted.vertices(bodies, i, self._detail)
            if vertices is not None:
                _, joints = self._lifted.body.pose(bodies.rotations[i], bodies.betas[i], bodies.translation[i])
                self._people[identity] = _Posed(joints, vertices)
        if not self._people:
            return
        feet = [p.vertices[(p.vertices @ self._room.down).argmax()] for p in self._people.values()]
        looked_at = [self._people[self.followed]] if self.followed in self._people else self._people.values()
        centre = np.mean([p.joints[0] for p in looked_at], 0)
        self._room.see(feet, centre, result.frame.time)

    def _compose(self, result: Result) -> U8:
        lifted = self._lifted
        if lifted is None or self._scene is None or result.bodies is None or self.from_camera:
            canvas: U8 = self._empty.copy()
            body = lifted if self.mode == "mesh" else None
            picture = _small(result, self.width, self.height, body, self._aspect, parts=self._parts, mirror=self._mirror)
            _paste(canvas, picture, middle=True)
        else:
            canvas = self._render(result, lifted, self._scene)
            size = self.width * 3 // 10, self.height * 45 // 100
            picture = _small(result, *size, aspect=self._aspect, parts=self._parts, mirror=self._mirror)
            _paste(canvas, picture, middle=False)
        self._write_line(canvas, result)
        return canvas

    def _render(self, result: Result, lifted: Lifted, scene: Scene) -> U8:
        room = self._room
        scene.lines("grid", *_grid(room, self._reach))
        self._draw_frustum(scene, lifted.camera(result.frame.width, result.frame.height), result.frame)
        wanted = {"grid", "frustum"}
        for identity, person in self._people.items():
            r, g, b = (_DIMMED / 255 * c for c in colour_of(identity))
            name, colour = f"person {identity}", (r, g, b)
            if self.mode == "mesh":
                scene.mesh(name, person.vertices, lifted.body.meshes[self._detail].faces, colour)
            else:
                scene.mesh(name, self._bones(person.joints), self._bones.faces, colour)
            # The shadow of thick bones looks like that of the mesh and has a tenth of its faces.
            thick = self._bones(person.joints, 0.06 if self.mode == "mesh" else 0.022)
            scene.mesh(f"shadow {identity}", _flat(thick, room), self._bones.faces, _SHADOW)
            wanted |= {name, f"shadow {identity}"}
        for name in scene.names - wanted:
            scene.remove(name)
        self._aim(room)
        return scene.render(self._extrinsic(), self._lens)

    def _extrinsic(self) -> F64:
        """(4, 4): camera frame -> view."""
        level = np.eye(4)
        level[:3, :3] = self._room.turn
        return self.view.extrinsic() @ level

    def _aim(self, room: Room) -> None:
        """Keep the view's target on what is looked at."""
        if self._home:
            people = np.array([p.joints for p in self._people.values()]).reshape(-1, 3)
            wanted, target = np.concatenate([[room.turn.T @ room.centre], people]), room.centre.copy()
            if room.centre[2] < _FAR:  # the camera that sees them is to be seen too
                wanted = np.concatenate([wanted, [[-0.3, 0.3, -0.2], [0.3, -0.3, 0.5]]])
                target *= 0.62
            self.view = Orbit(target, 3.0, math.radians(-38), math.radians(14))
            while self.view.distance < 50 and not self._in_view(wanted):
                self.view.zoom(1.04)
            far = np.linalg.norm((people @ room.turn.T - room.centre)[:, [0, 2]], axis=1).max(initial=0)
            self._reach = next((r for r in (6, 12, 24) if far < 0.7 * r), 48)
            # Until the tilt has settled a little.
            self._home = room.begun is None or room.time - room.begun < 1.0
        if self.followed is not None:
            self.view.target = room.centre.copy()

    def _in_view(self, points: F64) -> bool:
        """Whether all points (n, 3) of the camera frame are seen, with some margin, above the line of text."""
        matrix = self._extrinsic()
        seen = points @ matrix[:3, :3].T + matrix[:3, 3]
        if seen[:, 2].min() < 0.5:
            return False
        at = self._lens.project(seen) / (self.width, self.height)
        return bool((at > (0.05, 0.1)).all() and (at < (0.95, 0.9)).all())

    def _draw_frustum(self, scene: Scene, camera: Camera, frame: Frame) -> None:
        if "frustum" in scene.names:
            return
        corners = np.array([[0, 0], [frame.width - 1, 0], [frame.width - 1, frame.height - 1], [0, frame.height - 1]])
        far = np.concatenate([camera.rays(corners), np.ones((4, 1))], 1)
        sticks = _Sticks(np.array([-1, 0, 0, 0, 0]), loop=(1, 2, 3, 4))
        scene.mesh("frustum", sticks(np.concatenate([np.zeros((1, 3)), 0.5 * far]), 0.01), sticks.faces, _FRUSTUM)

    def _write_line(self, canvas: U8, result: Result) -> None:
        rate = (len(self._shown) - 1) / max(self._shown[-1] - self._shown[0], 1e-9) if len(self._shown) > 1 else 0.0
        count = len(result.people)
        parts = [f"{rate:.0f} fps", f"{1e3 * self._latency:.0f} ms", f"{count} {'person' if count == 1 else 'people'}"]
        parts += [f"following {self.followed}"] if self.followed is not None else []
        parts += ["camera's view"] if self.from_camera else []
        parts += ["paused"] if self.paused else []
        band = canvas[-28:]
        band[:] = band // 3
        _text(canvas, "  ".join(parts), 10, self.height - 9, (240, 240, 240))
        if self._window and result.bodies is not None:
            text = self._said if time.monotonic() < self._said_until else HELP
            width = cv2.getTextSize(text, cv2.FONT_HERSHEY_SIMPLEX, 0.4, 1)[0][0]
            _text(canvas, text, self.width - width - 10, self.height - 9, (160, 165, 175), 0.4)

    # The window ----------------------------------------------------------------------------------------------------------------

    def _show(self, picture: U8) -> None:
        if not self._opened:
            cv2.namedWindow(TITLE, cv2.WINDOW_AUTOSIZE | cv2.WINDOW_GUI_NORMAL)
            cv2.setMouseCallback(TITLE, self._mouse)
            self._opened = True
        cv2.imshow(TITLE, cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))

    def _hear(self) -> None:
        key = cv2.waitKey(1) & 0xFF
        actions: dict[int, Callable[[], None]] = {
            ord("f"): self.follow,
            ord("r"): self.reset,
            ord("c"): self.look_from_camera,
            ord("m"): self.toggle,
            ord(" "): self.pause,
            ord("s"): self._shoot,
        }
        if key in actions:
            actions[key]()
        if key in (ord("q"), 27) or closed(TITLE):
            self._over = True
            raise Stop

    def _shoot(self) -> None:
        while Path(f"rtpose-{self._shots:03d}.png").exists():
            self._shots += 1
        path = Path(f"rtpose-{self._shots:03d}.png")
        self.screenshot(path)
        self._said, self._said_until, self._stale = f"wrote {path}", time.monotonic() + 3, True

    def _mouse(self, event: int, x: int, y: int, flags: int, _: Any) -> None:
        if event == cv2.EVENT_LBUTTONDOWN:
            self._drag = x, y
        elif event == cv2.EVENT_LBUTTONUP:
            self._drag = None
        elif event == cv2.EVENT_MOUSEMOVE and self._drag is not None:
            self.view.turn((x - self._drag[0]) * -0.006, (y - self._drag[1]) * 0.006)
            self._drag = x, y
            self.from_camera = self._home = False
            self._stale = self._result is not None
        elif event == cv2.EVENT_MOUSEWHEEL:
            self.view.zoom(0.9 if flags > 0 else 1 / 0.9)
            self._stale = self._result is not None


class _Sticks:
    """Six-sided rods between joints and their parents, as one mesh; `loop` names joints that are also joined in a ring."""

    SIDES = 6

    def __init__(self, parents: NDArray[Any], loop: tuple[int, ...] = ()) -> None:
        pairs = [(int(p), j) for j, p in enumerate(parents) if p >= 0]
        pairs += [(a, b) for a, b in zip(loop, (*loop[1:], *loop[:1]), strict=True)]
        self._pairs = np.array(pairs)
        n, s = len(pairs), np.arange(self.SIDES)
        after = (s + 1) % self.SIDES
        rod = np.concatenate([np.stack([s, after, s + self.SIDES], 1), np.stack([after, after + self.SIDES, s + self.SIDES], 1)])
        self.faces = (rod[None] + 2 * self.SIDES * np.arange(n)[:, None, None]).reshape(-1, 3).astype(np.int32)

    def __call__(self, joints: F64, radius: float = 0.022) -> F64:
        """The vertices (v, 3) for joints (j, 3) in metres."""
        a, b = joints[self._pairs[:, 0]], joints[self._pairs[:, 1]]
        along = b - a
        along /= np.linalg.norm(along, axis=1, keepdims=True) + 1e-9
        # Any direction across will do: across the axis that the rod is furthest from.
        side = np.cross(along, np.eye(3)[np.abs(along).argmin(1)])
        side /= np.linalg.norm(side, axis=1, keepdims=True)
        other = np.cross(along, side)
        angle = np.arange(self.SIDES) * (2 * math.pi / self.SIDES)
        ring = radius * (np.cos(angle)[None, :, None] * side[:, None] + np.sin(angle)[None, :, None] * other[:, None])
        return np.concatenate([a[:, None] + ring, b[:, None] + ring], 1).reshape(-1, 3)


def _flat(points: NDArray[Any], room: Room) -> NDArray[Any]:
    """The shadow of points (p, 3) under a lamp straight above, a little over the ground so that the grid does not shine through."""
    above = room.ground - 0.004 - points @ room.down
    return np.asarray(points + above[:, None] * room.down)


def _grid(room: Room, reach: int) -> tuple[F64, NDArray[np.int32], F64]:
    """Lines of a square grid about the people that fades away over `reach` metres: points (p, 3), pairs (l, 2), colours (l, 3)."""
    cell, n = reach // 6, 13
    x, z = (cell * round(v / cell) for v in (room.centre[0], max(room.centre[2] - 0.5 * reach, 0.66 * room.centre[2])))
    across, along = np.meshgrid(cell * np.arange(n) - reach, cell * np.arange(n) - reach, indexing="ij")
    points = np.stack([across + x, np.full((n, n), room.ground), along + z], -1).reshape(-1, 3).astype(float)
    index = np.arange(n * n).reshape(n, n)
    pairs = np.concatenate(
        [np.stack([index[:-1], index[1:]], -1).reshape(-1, 2), np.stack([index[:, :-1], index[:, 1:]], -1).reshape(-1, 2)]
    )
    middle = points[pairs].mean(1) - [x, room.ground, z]
    fade = np.clip(1.15 - np.linalg.norm(middle, axis=1) / reach, 0, 1)[:, None]
    return points @ room.turn, pairs.astype(np.int32), fade * _GRID + (1 - fade) * _GRID_FAR


def _small(
    result: Result,
    width: int,
    height: int,
    lifted: Lifted | None = None,
    aspect: Fraction | float = 1.0,
    *,
    parts: Collection[str] = PARTS,
    mirror: bool = False,
) -> U8:
    """The picture with what is drawn into it, shrunk or enlarged to fit into width x height, with square pixels.

    aspect: of the result's pixels.
    """
    frame = result.frame
    square = PixelScale.of(aspect, frame.width, frame.height) or PixelScale(1.0, 1.0)
    scale = min(width / (frame.width * square.x), height / (frame.height * square.y))
    fit = PixelScale(square.x * scale, square.y * scale)
    every = max(1, math.floor(0.7 / scale))  # leaves so much out of a big picture that averaging the rest is cheap
    method = cv2.INTER_AREA if scale * every < 0.6 else cv2.INTER_LINEAR
    image = cv2.resize(frame.image[::every, ::every], fit.size(frame.width, frame.height), interpolation=method)
    smaller = replace(result, frame=replace(frame, image=np.asarray(image)), people=fit.people(result.people))
    if lifted is None:
        return draw(smaller, parts=parts, mirror=mirror)
    camera = fit.camera(lifted.camera(frame.width, frame.height))
    return draw(smaller, Lifted(lifted.body, lambda width, height: camera), parts=parts, mirror=mirror)


def _paste(canvas: U8, picture: U8, *, middle: bool) -> None:
    """Put the picture into the middle of the canvas, or framed into its top left corner."""
    (h, w), (height, width) = picture.shape[:2], canvas.shape[:2]
    x, y = ((width - w) // 2, (height - h) // 2) if middle else (12, 12)
    if not middle:
        canvas[y - 2 : y + h + 2, x - 2 : x + w + 2] = (200, 203, 208)
    canvas[y : y + h, x : x + w] = picture


def _text(canvas: U8, text: str, x: int, y: int, colour: tuple[int, int, int], scale: float = 0.5) -> None:
    cv2.putText(canvas, text, (x, y), cv2.FONT_HERSHEY_SIMPLEX, scale, colour, 1, cv2.LINE_AA)
