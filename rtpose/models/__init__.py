"""The registry of networks: every weight file has a card, a JSON file beside it, and whatever has a card is known by its name.

Cards are looked for in this package (the networks that come with rtpose), in `models/` of the user's data folder (networks the user
imported) and in `networks/` of the cache (those made of a checkpoint that the user names at every run).
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

from ..errors import InputError
from ..folders import cache_folder, data_folder

TASKS = ("detector", "keypoints", "lifter", "hmr", "ankles")


@dataclass(frozen=True, slots=True)
class Model:
    """A network on disk and what its card says of it.

    name: how the user calls it, unique among the networks of its task. path: the weights. sha256 and size (bytes): of that
    file as it should be. licence: SPDX identifier. origin: who published the weights, and where. made: how the file came out of
    that. input: the tensors it takes, in words. decoder: which code reads its outputs (the stages know these names). also: names and
    sha256 of files beside it that belong to it, as its int8 form.
    """

    name: str
    task: str
    path: Path
    sha256: str
    size: int
    licence: str
    origin: str
    made: str
    input: str
    decoder: str
    also: dict[str, str] = field(default_factory=dict, hash=False)


def bundled_folder() -> Path:
    """Where the networks lie that come with rtpose."""
    return Path(__file__).parent


def user_folder() -> Path:
    """Where the networks lie that the user imported. It need not exist."""
    return data_folder() / "models"


def exported_folder() -> Path:
    """Where the networks lie that were made of checkpoints. It need not exist."""
    return cache_folder() / "networks"


def models() -> dict[str, Model]:
    """Every network that has a card, by name: those of rtpose, then the user's, each in alphabetical order.

    Raises InputError for a card that cannot be read and for two cards of one name.
    """
    found: dict[str, Model] = {}
    for folder in (bundled_folder(), user_folder(), exported_folder()):
        for card in sorted(folder.glob("*.json")):
            model = _read(card)
            if model.name in found:
                raise InputError(f"two networks are called {model.name!r}: {found[model.name].path} and {model.path}; remove one")
            found[model.name] = model
    return found


def find(name: str, task: str) -> Model:
    """The network of that name, made for that task. Raises InputError that lists the names there are."""
    of_task = {model.name: model for model in models().values() if model.task == task}
    if name not in of_task:
        raise InputError(f"no {task} is called {name!r}: choose one of {', '.join(of_task) or '(none is installed)'}")
    return of_task[name]


def verify(model: Model) -> None:
    """Check the weights against their card. Raises InputError with both checksums where they differ."""
    for path, expected in {
        model.path: model.sha256,
        **{model.path.parent / name: said for name, said in model.also.items()},
    }.items():
        try:
            actual = file_sha256(path)
        except OSError as error:
            raise InputError(f"cannot read the weights of {model.name}: {path}: {error.strerror}") from None
        if actual != expected:
            raise InputError(
                f"the weights of {model.name} are damaged: {path} has sha256 {actual}, its card says {expected}; install it again"
            )


def register(path: Path, *, name: str, task: str, licence: str, origin: str, made: str, input: str, decoder: str) -> Model:
    """Write the card of the weight file at `path` beside it and return the model. An int8 form that lies there goes with it."""
    also = {small.name: file_sha256(small) for small in sorted(path.parent.glob(f"{path.stem}.int8.*"))}
    model = Model(name, task, path, file_sha256(path), path.stat().st_size, licence, origin, made, input, decoder, also)
    said = {key: str(value.name) if isinstance(value, Path) else value for key, value in asdict(model).items()}
    said["file"] = said.pop("path")
    card = path.with_suffix(".json")
    partial = card.with_name(f"{card.name}.{os.getpid()}.partial")
    partial.write_text(json.dumps(said, indent=2) + "\n", encoding="utf-8")
    partial.replace(card)
    return model


def file_sha256(path: Path) -> str:
    """The SHA-256 of a file, in hexadecimal."""
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(card: Path) -> Model:
    try:
        said = json.loads(card.read_text(encoding="utf-8"))
        values = {part.name: said[part.name] for part in fields(Model) if part.name not in ("path", "also")}
        model = Model(path=card.parent / said["file"], also=dict(said.get("also", {})), **values)
        if wrong := [part.name for part in fields(Model) if part.type == "str" and not isinstance(values.get(part.name), str)]:
            raise ValueError(f"{wrong[0]} should be text")
        if not all(isinstance(said, str) for said in model.also.values()):
            raise ValueError("also should be file names with their sha256")
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{card} is no card of a network ({type(error).__name__}: {error}): mend or remove it") from None
    if model.task not in TASKS:
        raise InputError(f"{card}: unknown task {model.task!r}: choose one of {', '.join(TASKS)}")
    return model
