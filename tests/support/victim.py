"""Starts workloads, on the host's own tree or in namespaces of their own, and sees them through."""
import contextlib
import ctypes
import os
import pathlib
import shutil
import signal
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
        self.restore_arguments = []
        self.dump_arguments = []

    # What the workload's own files are called here, and its directory is called there.
    def state(self):
        return self.directory

    def start(self):
        null = os.open("/dev/null", os.O_RDWR)
        child = subprocess.Popen([str(self.workload), str(self.directory)], stdin=null, stdout=null, stderr=null,
                                 start_new_session=True, cwd="/", env={"WORKLOAD": self.workload.name})
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
        doomed = tasks.tree(self.root_pid) if tasks.status(self.root_pid) else []
        for pid in doomed:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)

        def gone():
            reap()
            return not any(tasks.is_alive(pid) for pid in doomed)
        wait_until(gone, f"{self.workload.name} is gone")

    def wait_until_gone(self, pids):
        """After a dump: the pids must be free again before a restore can take them."""
        def gone():
            reap()
            return not any(os.path.exists(f"/proc/{pid}") for pid in pids)
        wait_until(gone, "the dumped tasks are gone")


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
        self.restore_arguments = ["--root", str(root)]

    def state(self):
        return self.root / "state"

    def start(self):
        result = subprocess.run([str(self.nest), str(self.root), "/workload", "/state"], stdin=subprocess.DEVNULL,
                                stdout=subprocess.PIPE, text=True, env={"WORKLOAD": self.workload.name}, timeout=20)
        if result.returncode != 0:
            raise RuntimeError("the namespaces could not be made")
        self.root_pid = int(result.stdout)
        self.wait_until_ready()
        return self


def make(flavour, workload, directory, nest):
    return NamespacedVictim(workload, directory, nest) if flavour == "namespaces" else Victim(workload, directory)
