"""Stand-in for NVIDIA's container toolkit on a practice host: gives containers SIMULATED GPUs.

One program under five names, as the real packages install them: nvidia-ctk, nvidia-cdi-hook,
nvidia-container-cli, nvidia-container-runtime, nvidia-container-runtime-hook.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

CONFIG = Path("/etc/rigup-lab-gpus.conf")
VERSION_FILE = Path("/usr/lib/rigup-lab/toolkit-version")
DAEMON_JSON = Path("/etc/docker/daemon.json")
HOOK = "/usr/bin/nvidia-container-runtime-hook"
SMI = "/usr/bin/nvidia-smi"
CONTROL_NODE = "/dev/nvidiactl"
CDI_VERSION = "0.5.0"
CDI_DIRS = (Path("/etc/cdi"), Path("/var/run/cdi"))
VISIBLE = "NVIDIA_VISIBLE_DEVICES"

# Runs in the container's mount namespace, before the container's root becomes its "/".
ENTER = r"""
set -eu
root=$1 library=$2
shift 2
give() {
  mkdir -p "$(dirname "$root$2")"
  [ -e "$root$2" ] || : > "$root$2"
  mount --bind "$1" "$root$2"
}
folder=${library%/*}
[ -d "$root$folder" ] || folder=/usr/lib64
give /usr/bin/nvidia-smi /usr/bin/nvidia-smi
give "$library" "$folder/libnvidia-ml.so.1"
give /etc/rigup-lab-gpus.conf /etc/rigup-lab-gpus.conf
[ -e "$root/dev/nvidiactl" ] || mknod -m 666 "$root/dev/nvidiactl" c 195 255
for minor in "$@"; do
  [ -e "$root/dev/nvidia$minor" ] || mknod -m 666 "$root/dev/nvidia$minor" c 195 "$minor"
done
"""


class ToolkitError(Exception):
    """Printed to standard error; exit status 1."""


@dataclass(frozen=True)
class Gpu:
    minor: int
    uuid: str

    @property
    def node(self) -> str:
        return f"/dev/nvidia{self.minor}"


def parse_gpus(text: str) -> tuple[Gpu, ...]:
    """The GPUs that a configuration file lists."""
    rows = [line.split() for line in text.splitlines() if line.startswith("gpu ")]
    return tuple(Gpu(int(row[1]), row[2]) for row in rows)


def choose(gpus: tuple[Gpu, ...], wanted: str) -> tuple[Gpu, ...]:
    """The GPUs that ``NVIDIA_VISIBLE_DEVICES`` asks for: all, none, indexes or UUIDs."""
    if wanted == "all":
        return gpus
    chosen: list[Gpu] = []
    for word in [] if wanted == "none" else wanted.split(","):
        found = [gpu for gpu in gpus if word in (str(gpu.minor), gpu.uuid)]
        if not found:
            raise ToolkitError(f"nvidia-container-cli: device error: {word}: unknown device")
        chosen += [gpu for gpu in found if gpu not in chosen]
    return tuple(chosen)


def loaded_gpus() -> tuple[Gpu, ...]:
    if not Path(CONTROL_NODE).exists() or not CONFIG.exists():
        raise ToolkitError(
            "nvidia-container-cli: initialization error: nvml error: driver not loaded"
        )
    return tuple(gpu for gpu in parse_gpus(CONFIG.read_text("utf-8")) if Path(gpu.node).exists())


def library() -> str:
    found = sorted(Path("/usr/lib").glob("*-linux-gnu/libnvidia-ml.so.1"))
    if not found:
        raise ToolkitError(
            "nvidia-container-cli: initialization error: load library failed: libnvidia-ml.so.1"
        )
    return str(found[0])


def visible_devices(config: dict[str, Any]) -> str | None:
    """What the container asked for; None where it wants nothing of NVIDIA's."""
    environment = config.get("process", {}).get("env", [])
    values = [entry.partition("=")[2] for entry in environment if entry.startswith(f"{VISIBLE}=")]
    return values[-1] if values and values[-1] not in ("", "void") else None


def prestart() -> None:
    """The OCI prestart hook: container state on standard input."""
    state = json.load(sys.stdin)
    bundle = Path(state["bundle"])
    config = json.loads((bundle / "config.json").read_text("utf-8"))
    wanted = visible_devices(config)
    if wanted is None:
        return
    chosen = choose(loaded_gpus(), wanted)
    root = str((bundle / config["root"]["path"]).resolve())
    words = ["nsenter", f"--mount=/proc/{state['pid']}/ns/mnt", "--", "sh", "-c", ENTER, "sh"]
    words += [root, library(), *(str(gpu.minor) for gpu in chosen)]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        raise ToolkitError(f"nvidia-container-cli: mount error: {done.stderr.strip()}")


def with_hook(config: dict[str, Any]) -> dict[str, Any]:
    """An OCI configuration that also calls the prestart hook, once."""
    hooks = config.setdefault("hooks", {}).setdefault("prestart", [])
    if not any(Path(hook["path"]).name == Path(HOOK).name for hook in hooks):
        hooks.append({"path": HOOK, "args": [HOOK, "prestart"]})
    return config


def runtime(arguments: list[str]) -> None:
    """runc with the hook added to containers that ask for GPUs."""
    if "create" in arguments:
        path = Path(option(arguments, "--bundle", "-b") or ".") / "config.json"
        config = json.loads(path.read_text("utf-8"))
        if visible_devices(config) is not None:
            path.write_text(json.dumps(with_hook(config)), "utf-8")
    os.execvp("runc", ["runc", *arguments])  # noqa: S606


def option(arguments: list[str], *names: str) -> str | None:
    """The value of ``--name VALUE`` or ``--name=VALUE``."""
    for index, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name in names:
            return value if equals else next(iter(arguments[index + 1 : index + 2]), None)
    return None


def merged(daemon: dict[str, Any], *, default: bool = False, cdi: bool = False) -> dict[str, Any]:
    """daemon.json with the nvidia runtime; everything else in it stays."""
    runtimes = {**daemon.get("runtimes", {})}
    runtimes["nvidia"] = {"args": [], "path": "nvidia-container-runtime"}
    result = {**daemon, "runtimes": runtimes}
    if default:
        result["default-runtime"] = "nvidia"
    if cdi:
        result["features"] = {**daemon.get("features", {}), "cdi": True}
    return result


def configure(arguments: list[str]) -> None:
    if (option(arguments, "--runtime") or "docker") != "docker":
        raise ToolkitError("only --runtime=docker is simulated")
    path = Path(option(arguments, "--config") or DAEMON_JSON)
    text = path.read_text("utf-8") if path.exists() else ""
    try:
        daemon = json.loads(text) if text.strip() else {}
    except ValueError as error:
        raise ToolkitError(f"unable to load config for runtime docker: {path}: {error}") from error
    cdi = any(argument.startswith("--cdi.enabled") for argument in arguments)
    updated = merged(daemon, default="--set-as-default" in arguments, cdi=cdi)
    if "--dry-run" in arguments:
        print(json.dumps(updated, indent=4))
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(updated, indent=4) + "\n", "utf-8")
    info(f"Wrote updated config to {path}")
    info("It is recommended that docker daemon be restarted.")


def cdi_spec(gpus: tuple[Gpu, ...], library_path: str) -> dict[str, Any]:
    """A CDI specification: every GPU by index and by UUID, and ``all``."""
    shared = [SMI, str(CONFIG), library_path]
    devices = [
        {"name": name, "containerEdits": {"deviceNodes": [{"path": gpu.node}]}}
        for gpu in gpus
        for name in (str(gpu.minor), gpu.uuid)
    ]
    every = {"deviceNodes": [{"path": gpu.node} for gpu in gpus]}
    return {
        "cdiVersion": CDI_VERSION,
        "kind": "nvidia.com/gpu",
        "devices": [*devices, {"name": "all", "containerEdits": every}],
        "containerEdits": {
            "env": [f"{VISIBLE}=void"],
            "deviceNodes": [{"path": CONTROL_NODE}],
            "mounts": [
                {"hostPath": path, "containerPath": path, "options": ["ro", "nosuid", "bind"]}
                for path in shared
            ],
        },
    }


def generate(arguments: list[str]) -> None:
    # JSON is YAML too, and this host needs no YAML library for it.
    text = json.dumps(cdi_spec(loaded_gpus(), library()), indent=2) + "\n"
    target = option(arguments, "--output")
    if not target:
        print(text, end="")
        return
    Path(target).parent.mkdir(parents=True, exist_ok=True)
    Path(target).write_text(text, "utf-8")
    info(f"Generated CDI spec with version {CDI_VERSION}")


def list_devices() -> None:
    names: list[str] = []
    for path in [path for folder in CDI_DIRS for path in sorted(folder.glob("nvidia*.yaml"))]:
        spec = json.loads(path.read_text("utf-8"))
        names += [f"{spec['kind']}={device['name']}" for device in spec["devices"]]
    info(f"Found {len(names)} CDI devices")
    for name in names:
        print(name)


def set_config(arguments: list[str]) -> None:
    """``nvidia-ctk config --set section.key=value --in-place``."""
    wanted = option(arguments, "--set") or ""
    name, _, value = wanted.partition("=")
    key = name.rpartition(".")[2]
    path = Path(option(arguments, "--config") or "/etc/nvidia-container-runtime/config.toml")
    lines = path.read_text("utf-8").splitlines()
    changed = [
        f"{key} = {value or 'true'}" if line.startswith(f"{key} ") else line for line in lines
    ]
    if "--in-place" in arguments or "-i" in arguments:
        path.write_text("\n".join(changed) + "\n", "utf-8")
    else:
        print("\n".join(changed))


def ctk(arguments: list[str]) -> None:
    if arguments[:2] == ["runtime", "configure"]:
        configure(arguments[2:])
    elif arguments[:2] == ["cdi", "generate"]:
        generate(arguments[2:])
    elif arguments[:2] == ["cdi", "list"]:
        list_devices()
    elif arguments[:1] == ["config"]:
        set_config(arguments[1:])
    else:
        raise ToolkitError(f"not simulated: nvidia-ctk {' '.join(arguments)}")


def cli(arguments: list[str]) -> None:
    if arguments[:1] == ["list"]:
        print("\n".join([CONTROL_NODE, *(gpu.node for gpu in loaded_gpus()), SMI, library()]))
    elif arguments[:1] == ["info"]:
        print("\n".join(f"GPU UUID: {gpu.uuid} (SIMULATED)" for gpu in loaded_gpus()))
    else:
        print(f"cli-version: {version()} (SIMULATED)")


def version() -> str:
    return VERSION_FILE.read_text("utf-8").strip()


def info(text: str) -> None:
    print(f'time="" level=info msg="{text}"', file=sys.stderr)


def main(program: str, arguments: list[str]) -> int:
    try:
        if program == "nvidia-container-runtime-hook":
            if arguments[:1] == ["prestart"]:
                prestart()
        elif program == "nvidia-container-runtime":
            runtime(arguments)
        elif program == "nvidia-container-cli":
            cli(arguments)
        elif program == "nvidia-ctk":
            ctk(arguments)
    except ToolkitError as error:
        print(error, file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
