"""Starts workloads, on the host's own tree or in namespaces of their own, and sees them through."""
import contextlib
import ctypes
import fcntl
import os
import pathlib
import shutil
import signal
import socket
import struct
import subprocess
import time

from support import engine, tasks

SKIPPED = 77
_libc = ctypes.CDLL(None, use_errno=True)


def become_subreaper():
    """Restored tasks, which are nobody's children, become ours: we can wait for them and clean up."""
    PR_SET_CHILD_SUBREAPER = 36
    if _libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), "prctl")


def leave_the_others():
    """Private mount and net namespaces for this process and all it starts, so that what a test leaves
    behind there can be told from what others do meanwhile."""
    CLONE_NEWNS, CLONE_NEWNET, MS_REC, MS_PRIVATE = 0x20000, 0x40000000, 0x4000, 0x40000
    if _libc.unshare(CLONE_NEWNS | CLONE_NEWNET) != 0:
        raise OSError(ctypes.get_errno(), "unshare")
    if _libc.mount(b"none", b"/", None, MS_REC | MS_PRIVATE, None) != 0:
        raise OSError(ctypes.get_errno(), "mount")
    SIOCSIFFLAGS, IFF_UP = 0x8914, 1
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", IFF_UP))


def wait_until(condition, what, seconds=20):
    """The condition's first true value."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        value = condition()
        if value:
            return value
        time.sleep(0.002)
    raise TimeoutError(f"{what}: not within {seconds} s")


def reap():
    """Collects every child of ours that has ended; {pid: wait status}."""
    ended = {}
    with contextlib.suppress(ChildProcessError):
        while True:
            pid, how = os.waitpid(-1, os.WNOHANG)
            if pid == 0:
                break
            ended[pid] = how
    return ended


def wait_until_gone(identities):
    """After a dump: the tasks have ended and, where they were our children, are waited for."""
    def gone():
        reap()
        return not tasks.remaining(identities)
    wait_until(gone, "the dumped tasks are gone")


def kill_tree(root):
    doomed = tasks.identities(root) if tasks.status(root) else []
    for pid in tasks.remaining(doomed):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    wait_until_gone(doomed)


def kill_descendants():
    """Leaves no process behind that this one started or adopted."""
    def gone():
        for pid in tasks.tree(os.getpid())[1:]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        reap()
        return len(tasks.tree(os.getpid())) == 1
    wait_until(gone, "all descendants are gone")


class Victim:
    """One workload with a directory of its own. `root_pid` is the task to dump."""

    flavour = "host"

    def __init__(self, workload, directory):
        self.workload = pathlib.Path(workload)
        self.directory = pathlib.Path(directory)
        shutil.rmtree(self.directory, ignore_errors=True)
        self.directory.mkdir(parents=True)
        self.directory.chmod(0o777)  # a workload may drop its privileges
        self.root_pid = None
        self.environment = {"WORKLOAD": self.workload.name}
        self.restore_arguments = []
        self.dump_arguments = []

    # What the workload's own files are called here, and its directory is called there.
    def state(self):
        return self.directory

    def start(self):
        null = os.open("/dev/null", os.O_RDWR)
        child = subprocess.Popen([str(self.workload), str(self.directory)], stdin=null, stdout=null, stderr=null,
                                 start_new_session=True, cwd="/", env=self.environment)
        os.close(null)
        self.root_pid = child.pid
        child.returncode = 0  # it is waited for by reap(), not by Popen
        self.wait_until_ready()
        return self

    def wait_until_ready(self):
        def ready_or_over():
            reap()
            return (self.state() / "ready").exists() or (self.state() / "verdict").exists() or not tasks.is_alive(self.root_pid)
        wait_until(ready_or_over, f"{self.workload.name} gets ready")

    def workload_pid(self):
        """The pid here of the process that waits for the go signal."""
        inner = int((self.state() / "ready").read_text())
        for pid in tasks.tree(self.root_pid):
            if tasks.status(pid).get("NSpid", "").split()[-1:] == [str(inner)]:
                return pid
        raise LookupError(f"no task {inner} under {self.root_pid}")

    def verdict(self):
        """What the workload has said so far."""
        with contextlib.suppress(OSError):
            return (self.state() / "verdict").read_text().strip()
        return None

    def go(self):
        """Tells it to go on; its verdict, once it has ended."""
        os.kill(self.workload_pid(), signal.SIGUSR2)

        def over():
            reap()
            return not tasks.is_alive(self.root_pid)
        wait_until(over, f"{self.workload.name} ends after it was told to go on (verdict so far: {self.verdict()})")
        return self.verdict() or "FAIL ended without a verdict"

    def kill(self):
        if self.root_pid is None:
            return
        kill_tree(self.root_pid)

class NamespacedVictim(Victim):
    """The workload below a small init, in new pid, mount, uts, ipc and net namespaces, with a root
    directory that holds nothing but the two programs and a few devices."""

    flavour = "namespaces"

    def __init__(self, workload, directory, nest):
        super().__init__(workload, directory)
        self.nest = nest
        root = self.directory / "root"
        for name in ("proc", "dev", "tmp", "state"):
            (root / name).mkdir(parents=True)
        (root / "state").chmod(0o777)
        (root / "tmp").chmod(0o1777)
        shutil.copy(self.workload, root / "workload")
        shutil.copy(nest, root / "init")
        for name, minor in (("null", 3), ("zero", 5), ("full", 7), ("random", 8), ("urandom", 9)):
            os.mknod(root / "dev" / name, 0o20666, os.makedev(1, minor))
            (root / "dev" / name).chmod(0o666)
        self.root = root
        self.bind = None  # (folder outside, mount point inside)
        # As runtimes do: the network namespace is made anew, its links are somebody else's business.
        self.dump_arguments = ["--empty-ns", "net"]
        self.restore_arguments = ["--empty-ns", "net", "--root", str(root)]

    def state(self):
        return self.root / "state"

    def start(self):
        command = [str(self.nest), str(self.root), "/workload", "/state"]
        if self.bind:
            (self.root / self.bind[1][1:]).mkdir()
            command += map(str, self.bind)
        result = subprocess.run(command, stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True, env=self.environment, timeout=20)
        if result.returncode != 0:
            raise RuntimeError("the namespaces could not be made")
        self.root_pid = int(result.stdout)
        self.wait_until_ready()
        return self


def make(flavour, workload, directory, nest):
    return NamespacedVictim(workload, directory, nest) if flavour == "namespaces" else Victim(workload, directory)
