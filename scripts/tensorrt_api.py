"""List what the Python bindings of TensorRT really have, as type stubs in tests/tensorrt_api, one folder a version.

    python scripts/tensorrt_api.py [FOLDER]

The bindings are small wheels that load NVIDIA's large libraries. Empty libraries in their place are enough to import them and
look; nothing is computed. Needs a network for pip, gcc and readelf, and a Python that these wheels are made for (3.10-3.12).
"""

from __future__ import annotations

import enum
import importlib
import json
import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import Any

OUT = Path(__file__).resolve().parent.parent / "tests" / "tensorrt_api"
VERSIONS = {
    "10.3": ("tensorrt-cu12-bindings==10.3.0", "tensorrt"),
    "10.13": ("tensorrt-cu12-bindings==10.13.3.9", "tensorrt"),
    "10.16": ("tensorrt-cu12-bindings==10.16.1.11", "tensorrt"),
    "11.4": ("tensorrt-cu12-bindings==11.4.0.106", "tensorrt"),
    "rtx": ("tensorrt-rtx-cu13-bindings==1.7.1.116", "tensorrt_rtx"),
}
"""Folder -> (the wheel, the name under which our code imports it). 10.3 is JetPack 6's, 10.16 and 11.4 are JetPack 7's."""

CLASSES = [
    "Builder",
    "BuilderFlag",
    "ComputeCapability",
    "DataType",
    "IBuilderConfig",
    "ICudaEngine",
    "IExecutionContext",
    "IHostMemory",
    "ILogger",
    "INetworkDefinition",
    "IOptimizationProfile",
    "ITensor",
    "Logger",
    "MemoryPoolType",
    "NetworkDefinitionCreationFlag",
    "OnnxParser",
    "ParserError",
    "Runtime",
    "TensorIOMode",
]
"""What building and running an engine touches; the rest of the bindings is layers and plug-ins."""


def unpack(wheel: str, folder: Path) -> Path:
    """Fetch the wheel and put empty libraries where it looks for NVIDIA's; return the compiled module."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:", wheel, "-d", str(folder)]
    subprocess.run(command, check=True)
    zipfile.ZipFile(next(folder.glob("*.whl"))).extractall(folder)
    module = next(folder.glob("*/tensorrt*.so"))
    dynamic = subprocess.run(["readelf", "-d", str(module)], check=True, capture_output=True, text=True).stdout
    symbols = subprocess.run(["nm", "-D", "--undefined-only", str(module)], check=True, capture_output=True, text=True).stdout
    wanted = re.findall(r"U ((?:create|get|init)(?:Infer|Nv|Lib|Builder|Plugin)\w+)", symbols)
    source = folder / "empty.c"
    source.write_text("".join(f"void *{name}(void) {{ return 0; }}\n" for name in wanted))
    for library in re.findall(r"NEEDED.*\[(lib(?:nv|tensorrt)[^\]]+)\]", dynamic):
        subprocess.run(["gcc", "-shared", "-o", str(module.parent / library), str(source)], check=True)
    return module


def returned(member: Any) -> str:
    """The class that a method returns or a property has, as its documentation's first line says; Any where it is not ours."""
    text = (getattr(member, "__doc__", None) or getattr(getattr(member, "fget", None), "__doc__", None) or "").strip()
    # Overloads are numbered lines; they are of one mind about what they return.
    found = re.search(r"->\s*(?:[\w.]+\.)?(\w+)\s*$", text, re.MULTILINE)
    name = found.group(1) if found else ""
    return name if name in (*CLASSES, "bool", "int", "str") else "Any"


def describe(cls: type, indent: str = "") -> list[str]:
    """The lines of a class."""
    lines = [f"{indent}class {cls.__name__}:"]
    within = indent + "    "
    if cls.__init__ is not object.__init__:
        lines.append(f"{within}def __init__(self, *args: Any, **keywords: Any) -> None: ...")
    if hasattr(cls, "__int__") or hasattr(cls, "__index__"):
        lines.append(f"{within}def __int__(self) -> int: ...")
    if issubclass(cls, enum.Enum) or hasattr(cls, "__members__"):
        lines.append(f"{within}name: str")
        lines.append(f"{within}value: int")
    if hasattr(cls, "__buffer__") or cls.__name__ == "IHostMemory":
        lines.append(f"{within}def __buffer__(self, flags: int) -> memoryview: ...")
    for name in sorted(dir(cls)):
        if name.startswith("_") or name in ("name", "value"):
            continue
        member = getattr(cls, name)
        if isinstance(member, type):
            lines += describe(member, within)
        elif isinstance(member, cls):
            lines.append(f"{within}{name}: {cls.__qualname__}")
        elif callable(member):
            lines.append(f"{within}def {name}(self, *args: Any, **keywords: Any) -> {returned(member)}: ...")
        else:
            lines.append(f"{within}{name}: {returned(member)}")
    return [*lines[:1], f"{within}...", *lines[1:]] if len(lines) == 1 else lines


def stub(package: str, folder: Path) -> str:
    """The stub of the bindings in `folder`. `Module` is the module itself as a type."""
    sys.path.insert(0, str(folder))
    module = importlib.import_module(package)
    found = [name for name in CLASSES if hasattr(module, name)]
    lines = [f"# {package} {module.__version__}, read off the bindings by scripts/tensorrt_api.py", "from typing import Any", ""]
    for name in found:
        lines += [*describe(getattr(module, name)), ""]
    lines += [f"_{name} = {name}" for name in found]
    lines += ["", "class Module:", "    __version__: str"]
    lines += [f"    {name}: type[_{name}]" for name in found]
    return "\n".join(lines) + "\n"


def main() -> None:
    if sys.argv[1:2] == ["--look"]:  # in a process of its own, since a process can load one version only
        package, folder, target = sys.argv[2:]
        Path(target).write_text(stub(package, Path(folder)))
        return
    out = Path(sys.argv[1]) if sys.argv[1:] else OUT
    for version, (wheel, name) in VERSIONS.items():
        with tempfile.TemporaryDirectory() as scratch:
            module = unpack(wheel, Path(scratch))
            target = out / version / name / "__init__.pyi"
            target.parent.mkdir(parents=True, exist_ok=True)
            subprocess.run([sys.executable, __file__, "--look", module.parent.name, scratch, str(target)], check=True)
        print(json.dumps({"version": version, "wheel": wheel, "lines": len(target.read_text().splitlines())}))


if __name__ == "__main__":
    main()
