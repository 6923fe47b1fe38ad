"""Boots the board and runs one command on it: `enter.py IMAGE LAYER UID COMMAND…`. Ends with the command's exit code.

The board is a set of namespaces over the image: own users (ids as outside), mounts, processes, host name. Its kernel is this
machine's; binfmt_misc, which each user namespace has to itself since Linux 6.7, hands every arm64 program to qemu. What it
writes goes into LAYER and is there at the next boot. Killing this process is a power cut: nothing of the board survives it.
Python, because `unshare` and `mount` cannot do it in one process that dies with its parent.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
import uuid
from pathlib import Path

LIBC = ctypes.CDLL(None, use_errno=True)
# Sources: linux/sched.h, linux/mount.h, linux/prctl.h.
NEW_USER, NEW_MOUNTS, NEW_UTS, NEW_IPC, NEW_PIDS = (
    *(0x10000000, 0x00020000, 0x04000000, 0x08000000, 0x20000000),
)
BIND, RECURSIVE, PRIVATE = 0x1000, 0x4000, 0x40000
DIE_WITH_PARENT = 1
QEMU = b"/usr/bin/qemu-aarch64-static"
#: The ELF header of a little-endian 64-bit arm64 program or library; flags: opened at once, credentials of the program, fixed.
ARM64 = (
    rb":arm64:M::\x7fELF\x02\x01\x01\x00\x00\x00\x00\x00\x00\x00\x00\x00\x02\x00\xb7\x00:"
    rb"\xff\xff\xff\xff\xff\xff\xff\x00\xff\xff\xff\xff\xff\xff\xff\xff\xfe\xff\xff\xff:"
    + QEMU
    + b":OCF"
)
#: Without it onnxruntime reads this machine's x86 /proc/cpuinfo and crashes. The CPU part is a Cortex-A78AE, as in an Orin.
CPUINFO = "".join(
    f"processor\t: {k}\nBogoMIPS\t: 62.50\n"
    "Features\t: fp asimd evtstrm aes pmull sha1 sha2 crc32 atomics fphp asimdhp cpuid asimdrdm lrcpc dcpop asimddp\n"
    "CPU implementer\t: 0x41\nCPU architecture: 8\nCPU variant\t: 0x0\nCPU part\t: 0xd42\nCPU revision\t: 1\n\n"
    for k in range(2)
)
#: The default of qemu emulates every vector extension and is ten times slower.
ENVIRONMENT = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "QEMU_CPU": "cortex-a76",
    "PYTHONPATH": "/opt/site",
}


def check(result: int, what: str) -> None:
    if result != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{what}: {os.strerror(number)}")


def mount(
    source: str, place: Path, kind: str | None = None, flags: int = 0, data: str | None = None
) -> None:
    texts = [None if x is None else str(x).encode() for x in (source, place, kind, data)]
    check(LIBC.mount(texts[0], texts[1], texts[2], flags, texts[3]), f"mount {place}")


def assemble(image: Path, layer: Path) -> Path:
    """The board's root folder, mounted."""
    root = layer / "root"
    for name in ("root", "upper", "work"):
        (layer / name).mkdir(parents=True, exist_ok=True)
    mount("none", Path("/"), flags=RECURSIVE | PRIVATE)
    mount("proc", Path("/proc"), "proc")
    mount("binfmt_misc", Path("/proc/sys/fs/binfmt_misc"), "binfmt_misc")
    with open("/proc/sys/fs/binfmt_misc/register", "wb", buffering=0) as register:
        register.write(ARM64)
    layers = f"lowerdir={image},upperdir={layer / 'upper'},workdir={layer / 'work'}"
    mount("overlay", root, "overlay", data=layers)
    mount("proc", root / "proc", "proc")
    (layer / "cpuinfo").write_text(CPUINFO)
    mount(str(layer / "cpuinfo"), root / "proc/cpuinfo", flags=BIND)
    (layer / "boot_id").write_text(f"{uuid.uuid4()}\n")
    mount(str(layer / "boot_id"), root / "proc/sys/kernel/random/boot_id", flags=BIND)
    mount("tmpfs", root / "sys", "tmpfs", data="size=4m")
    cpus = root / "sys/devices/system/cpu"
    cpus.mkdir(parents=True)
    for name in ("possible", "present", "online"):
        (cpus / name).write_text("0-1\n")
    mount("tmpfs", root / "run", "tmpfs", data="size=64m,mode=755")
    (root / "run/sshd").mkdir()
    devices(root / "dev")
    return root


def devices(dev: Path) -> None:
    mount("tmpfs", dev, "tmpfs", data="size=64m,mode=755")
    for name in ("null", "zero", "full", "random", "urandom", "tty"):
        (dev / name).touch()
        mount(f"/dev/{name}", dev / name, flags=BIND)
    (dev / "pts").mkdir()
    (dev / "shm").mkdir(mode=0o1777)
    mount("devpts", dev / "pts", "devpts", data="newinstance,ptmxmode=0666,mode=620,gid=5")
    (dev / "ptmx").symlink_to("pts/ptmx")
    (dev / "fd").symlink_to("/proc/self/fd")


def boot(image: Path, layer: Path, uid: int, command: list[str]) -> int:
    """As the board's process 1: run the command, and reap what others leave behind."""
    root = assemble(image, layer)
    check(LIBC.sethostname(b"board", 5), "sethostname")
    os.chroot(root)
    child = os.fork()
    if child == 0:
        user = pwd.getpwuid(uid)
        os.setgroups([])
        os.setresgid(user.pw_gid, user.pw_gid, user.pw_gid)
        os.setresuid(uid, uid, uid)
        os.chdir(user.pw_dir)
        home = {"HOME": user.pw_dir, "USER": user.pw_name, "LOGNAME": user.pw_name}
        os.execvpe(command[0], command, {**ENVIRONMENT, **home})
    while True:
        ended, status = os.wait()
        if ended == child:
            return os.waitstatus_to_exitcode(status) & 255


def main() -> int:
    image, layer, uid, *command = sys.argv[1:]
    mapped, entered = os.pipe(), os.pipe()
    child = os.fork()
    if child == 0:
        LIBC.prctl(DIE_WITH_PARENT, signal.SIGKILL)
        check(LIBC.unshare(NEW_USER | NEW_MOUNTS | NEW_UTS | NEW_IPC | NEW_PIDS), "unshare")
        os.write(entered[1], b"x")
        os.read(mapped[0], 1)
        os.setresgid(0, 0, 0)
        os.setresuid(0, 0, 0)
        first = os.fork()  # process 1 of the new process namespace
        if first == 0:
            LIBC.prctl(DIE_WITH_PARENT, signal.SIGKILL)
            os._exit(boot(Path(image), Path(layer), int(uid), command))
        os._exit(os.waitstatus_to_exitcode(os.waitpid(first, 0)[1]) & 255)
    os.read(entered[0], 1)
    for kind in ("uid_map", "gid_map"):
        Path(f"/proc/{child}/{kind}").write_text("0 0 4294967295\n")
    os.write(mapped[1], b"x")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) & 255


if __name__ == "__main__":
    sys.exit(main())
