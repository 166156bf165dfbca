"""A container image with this interpreter and Dask, made from what this machine has; no registry is asked."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import sysconfig
from contextlib import suppress
from importlib.metadata import distribution
from pathlib import Path, PurePath

from packaging.requirements import Requirement

from tests.slurm.backend import script

NAME = "localhost/scalable-tests:latest"
PACKAGES = ("distributed", "dask", "psutil")
TOOLS = ("bash", "cat", "env", "hostname", "id", "ls", "mkdir", "rm", "sh", "sleep")

# Where things are in the image: an interpreter and a virtual environment of it, as on this machine.
PYTHON = PurePath("opt/python")
VENV = PurePath("opt/venv")

# Of the standard library, what no worker imports; together two thirds of it.
UNUSED = (
    "config-*", "dist-packages", "ensurepip", "idlelib", "lib2to3", "pydoc_data", "site-packages", "test", "tests",
    "tkinter", "turtledemo", "*.opt-?.pyc", "*.a",
)  # fmt: skip

CONTAINERS_CONF = """\
[containers]
netns = "host"
default_ulimits = ["nofile=4096:4096", "nproc=4096:4096"]
log_driver = "k8s-file"

[engine]
runtime = "runc"
cgroup_manager = "cgroupfs"
events_logger = "none"
lock_type = "file"
tmp_dir = "{directory}/run/libpod"
image_copy_tmp_dir = "{directory}"
"""

STORAGE_CONF = """\
[storage]
driver = "overlay"
graphroot = "{directory}/storage"
runroot = "{directory}/run"
"""


def install_podman() -> None:
    """Make sure that there are podman and runc.

    Raises
    ------
    Unavailable
        If this machine cannot have them.
    """
    script("packages.sh", "podman=podman", "runc=runc")


def settings(directory: Path) -> dict[str, str]:
    """Write podman's settings, which keep all it stores below a directory, and return the variables that name them."""
    names = {"CONTAINERS_CONF": CONTAINERS_CONF, "CONTAINERS_STORAGE_CONF": STORAGE_CONF}
    for name, text in names.items():
        _write(directory / f"{name.lower()}.toml", text.format(directory=directory))
    return {name: str(directory / f"{name.lower()}.toml") for name in names}


def build_image(directory: Path) -> str:
    """Build the image, give it to podman as its settings in the environment say, and return its name."""
    root = build_root(directory / "root")
    archive = directory / "root.tar"
    subprocess.run(["tar", "-C", root, "-cf", archive, "."], check=True)
    changes = (f"--change=ENV PATH=/{VENV}/bin:/usr/bin", "--change=ENV HOME=/tmp")
    subprocess.run(["podman", "import", "--quiet", *changes, archive, NAME], check=True, capture_output=True)
    archive.unlink()
    return NAME


def build_root(root: Path) -> Path:
    """Build the image's file system; runtimes without images take it as it is."""
    _skeleton(root)
    _copy_python(root)
    _copy_packages(root, PACKAGES)
    for tool in TOOLS:
        shutil.copy2(shutil.which(tool) or f"/bin/{tool}", root / "usr/bin" / tool)
    _copy_libraries(root)
    # What was compiled on this machine is compiled already: the sources' times were kept.
    subprocess.run([sys.executable, "-m", "compileall", "-q", "-j0", "-s", root, root / "opt"], check=True)
    return root


def remove(directory: Path) -> None:
    """Remove all containers and images below a directory that podman was set up with."""
    subprocess.run(["podman", "rm", "--all", "--force", "--time=0"], check=False, capture_output=True)
    mounts = [line.split()[1] for line in Path("/proc/mounts").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if Path(mount).is_relative_to(directory)), reverse=True):
        subprocess.run(["umount", mount], check=False)
    shutil.rmtree(directory)
    # Empty ones, which podman leaves; those with other containers in them stay.
    for pattern in ("*/libpod_parent/*/", "*/libpod_parent"):
        for cgroup in Path("/sys/fs/cgroup").glob(pattern):
            with suppress(OSError):
                cgroup.rmdir()


def _skeleton(root: Path) -> None:
    for name in ("dev", "etc", "home", "mnt", "opt", "proc", "root", "run", "sys", "usr", "work", "var/tmp", "tmp"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "lib", "lib64", "sbin"):
        (root / "usr" / name).mkdir()
        (root / name).symlink_to(f"usr/{name}")
    for name in ("tmp", "var/tmp"):
        (root / name).chmod(0o1777)
    _write(root / "etc/passwd", "root:x:0:0:root:/root:/bin/sh\nnobody:x:65534:65534::/:/bin/sh\n")
    _write(root / "etc/group", "root:x:0:\nnogroup:x:65534:\n")
    _write(root / "etc/nsswitch.conf", "hosts: files dns\npasswd: files\ngroup: files\n")
    # Runtimes mount the host's over these, but do not make them.
    _write(root / "etc/hosts", "127.0.0.1 localhost\n")
    _write(root / "etc/resolv.conf", "")


def _copy_python(root: Path) -> None:
    library = Path(sysconfig.get_path("stdlib"))
    target = root / PYTHON / library.relative_to(sys.base_prefix)
    shutil.copytree(library, target, symlinks=True, ignore=shutil.ignore_patterns(*UNUSED))
    binary = root / PYTHON / "bin" / f"python{sys.version_info.major}.{sys.version_info.minor}"
    binary.parent.mkdir()
    shutil.copy2(Path(sys.executable).resolve(), binary)
    _write(root / VENV / "pyvenv.cfg", f"home = /{PYTHON}/bin\ninclude-system-site-packages = false\n")
    for name in ("python", "python3"):
        link = root / VENV / "bin" / name
        link.parent.mkdir(exist_ok=True)
        link.symlink_to(f"/{PYTHON}/bin/{binary.name}")


def _copy_packages(root: Path, names: tuple[str, ...]) -> None:
    site = Path(sysconfig.get_path("purelib"))
    target = root / VENV / site.relative_to(sys.prefix)
    for name in sorted(_closure(names)):
        for file in distribution(name).files or ():
            source = Path(str(file.locate()))
            if ".." not in file.parts and "tests" not in file.parts and source.is_file():
                copy = target / file
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy2(source, copy)
    dask = root / VENV / "bin/dask"
    _write(dask, '#!/bin/sh\nexec python3 -m dask "$@"\n')
    dask.chmod(0o755)


def _closure(names: tuple[str, ...]) -> set[str]:
    """Return the named distributions and all that they need."""
    found: set[str] = set()
    wanted = list(names)
    while wanted:
        name = re.sub(r"[-_.]+", "-", wanted.pop()).lower()
        if name not in found:
            found.add(name)
            needs = map(Requirement, distribution(name).requires or ())
            wanted += [need.name for need in needs if need.marker is None or need.marker.evaluate({"extra": ""})]
    return found


def _copy_libraries(root: Path) -> None:
    """Copy the shared libraries that the image's programs are linked with to where this machine has them."""
    programs = [path for path in (root / "usr/bin").iterdir() if not path.is_symlink()]
    programs += [path for path in (root / PYTHON / "bin").iterdir() if not path.is_symlink()]
    programs += [path for path in root.rglob("*.so*") if path.is_file()]
    found = subprocess.run(["ldd", *programs], check=False, capture_output=True, text=True).stdout
    libraries = {Path(path) for path in re.findall(r"(?:=> |^\t)(/\S+) \(", found, flags=re.MULTILINE)}
    libc = next(path for path in libraries if path.name.startswith("libc.so"))
    # Loaded by the C library itself: when a thread is cancelled, and to look names up.
    libraries |= {libc.with_name(name) for name in ("libgcc_s.so.1", "libnss_files.so.2", "libnss_dns.so.2")}
    for path in libraries:
        if path.exists() and not path.is_relative_to(root):
            copy = root / path.relative_to("/")
            copy.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy2(path, copy)


def _write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
