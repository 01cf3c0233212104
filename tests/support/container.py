"""Busybox containers under runc, with the engine under test first in PATH."""
import collections
import contextlib
import json
import os
import pathlib
import re
import shutil
import socket
import subprocess
import time

from support import engine, tasks, victim
from support.harness import Wrong

BUSYBOX = "/bin/busybox"

# Two processes and a pipe: one counts in memory, the other adds up in memory what comes down the pipe
# and leaves "count sum" in a file on a tmpfs. A number lost, doubled or forgotten shows in the sum.
COUNTER = """
while :; do count=$((count + 1)); echo $count; sleep 0.02; done |
while read number; do
  sum=$((sum + number))
  echo $number $sum >/dev/shm/new
  mv /dev/shm/new /dev/shm/state
done
"""


class CommandFailed(RuntimeError):
    def __init__(self, command, code, output):
        self.code, self.output = code, output
        super().__init__(f"{' '.join(map(str, command))}: exit {code}: {output.strip()}")


def run(command, timeout=60, **more):
    result = subprocess.run([str(word) for word in command], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
                            stderr=subprocess.STDOUT, text=True, errors="replace", timeout=timeout, **more)
    if result.returncode != 0:
        raise CommandFailed(command, result.returncode, result.stdout)
    return result.stdout


def missing_tools():
    """What a container test cannot do without on this machine; empty if it can run."""
    lacks = [tool for tool in ("runc", BUSYBOX) if not shutil.which(tool)]
    if os.geteuid() != 0:
        lacks.append("root")
    if "cgroup" not in pathlib.Path("/proc/self/mountinfo").read_text():
        lacks.append("mounted cgroups")
    return lacks


def make_rootfs(rootfs):
    """A root directory with nothing but busybox."""
    for folder in ("bin", "dev", "etc", "proc", "root", "sys", "tmp"):
        (rootfs / folder).mkdir(parents=True, exist_ok=True)
    shutil.copy(BUSYBOX, rootfs / "bin/busybox")
    for name in run([BUSYBOX, "--list"]).split():
        with contextlib.suppress(FileExistsError):
            (rootfs / "bin" / name).symlink_to("busybox")


def make_bundle(bundle, arguments, terminal=False, change=None):
    """runc's own default configuration, with the arguments given; `change` may alter it further."""
    shutil.rmtree(bundle, ignore_errors=True)
    bundle.mkdir(parents=True)
    make_rootfs(bundle / "rootfs")
    run(["runc", "spec"], cwd=bundle)
    config = json.loads((bundle / "config.json").read_text())
    config["process"]["args"] = arguments
    config["process"]["terminal"] = terminal
    config["root"]["readonly"] = False
    if change:
        change(config)
    (bundle / "config.json").write_text(json.dumps(config, indent=1))


def _cgroup_settings(controllers, path):
    """Name and text of the settings (not the counters) of one cgroup."""
    for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
        left, right = line.split(" - ")
        kind, _, options = right.split()[:3]
        if kind == "cgroup" and set(controllers.split(",")) <= set(options.split(",")) or kind == "cgroup2" and not controllers:
            folder = pathlib.Path(left.split()[4] + path)
            break
    else:
        return
    for file in sorted(folder.iterdir()):
        if re.search(r"limit_in_bytes$|\.max$|\.high$|\.low$|\.min$|shares$|weight$|cpuset\.(cpus|mems)$|quota_us$|period_us$|devices\.list$|"
                     r"freezer\.state$|cgroup\.freeze$|swappiness$", file.name):
            with contextlib.suppress(OSError):
                yield file.name, file.read_text()


class ConsoleSocket:
    """What a runtime's --console-socket wants at the other end: takes the terminal's master side."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.path.unlink(missing_ok=True)
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(str(self.path))
        self.listener.listen(1)
        self.master = None
        self.seen = b""

    def accept(self, timeout=20):
        self.listener.settimeout(timeout)
        peer, _ = self.listener.accept()
        with peer:
            _, descriptors, _, _ = socket.recv_fds(peer, 4096, 1)
        self.master = descriptors[0]
        os.set_blocking(self.master, False)
        return self

    def write(self, text):
        os.write(self.master, text.encode())

    def expect(self, text):
        """Reads until the text has come."""
        def came():
            with contextlib.suppress(BlockingIOError):
                self.seen += os.read(self.master, 4096)
            return text.encode() in self.seen
        try:
            victim.wait_until(came, f"the terminal shows {text!r}")
        except TimeoutError as late:
            raise Wrong(f"{late}; it shows {self.seen!r}") from None
        self.seen = self.seen.partition(text.encode())[2]

    def close(self):
        self.listener.close()
        if self.master is not None:
            os.close(self.master)


class Container:
    """One container; everything of it lives under `scratch`."""

    made = []  # all of them, so that a test's end can clean up whatever happened

    def __init__(self, scratch, arguments, criu=None, terminal=False, change=None):
        self.scratch = pathlib.Path(scratch).resolve()
        shutil.rmtree(self.scratch, ignore_errors=True)
        self.bundle = self.scratch / "bundle"
        self.id = f"dormouse-{os.getpid()}-{self.scratch.name}"
        make_bundle(self.bundle, arguments, terminal, change)
        tools = self.scratch / "tools"  # a folder for PATH that holds the engine and nothing else
        tools.mkdir()
        (tools / "criu").symlink_to(criu or engine.ours())
        self.environment = dict(os.environ, PATH=f"{tools}:{os.environ['PATH']}")
        self.runtime = ["runc", "--root", str(self.scratch / "state")]
        Container.made.append(self)

    def command(self, *words, **more):
        return run([*self.runtime, *words], env=self.environment, **more)

    def _run_detached(self, words, console=None, stdout=None):
        """runc gives its own stdio to the container: /dev/null, or `stdout` where that is given."""
        command = [*self.runtime, words[0], "-d", "--bundle", str(self.bundle), *map(str, words[1:])]
        if console:
            command += ["--console-socket", str(console.path)]
        with open("/dev/null", "r+b") as null:
            result = subprocess.run([*command, self.id], stdin=null, stdout=stdout or null, stderr=stdout or null,
                                    env=self.environment, timeout=60)
        if result.returncode != 0:
            raise CommandFailed(command, result.returncode, "")

    def start(self, console=None, stdout=None):
        self._run_detached(["run"], console, stdout)
        return self

    def state(self):
        try:
            return json.loads(self.command("state", self.id))
        except CommandFailed:
            return None

    def pid(self):
        state = self.state()
        return state["pid"] if state and state["status"] in ("running", "paused") else None

    def checkpoint(self, images, *options, work=None):
        work = pathlib.Path(work or images)
        work.mkdir(parents=True, exist_ok=True)
        try:
            return self.command("checkpoint", "--image-path", images, "--work-path", work, *options, self.id)
        except CommandFailed as failure:
            raise engine.Failed("checkpoint", failure.code, self.log(work, "dump.log"), failure.output) from failure

    def restore(self, images, *options, work=None, console=None, stdout=None):
        work = pathlib.Path(work or images)
        work.mkdir(parents=True, exist_ok=True)
        try:
            self._run_detached(["restore", "--image-path", images, "--work-path", work, *options], console, stdout)
        except CommandFailed as failure:
            raise engine.Failed("restore", failure.code, self.log(work, "restore.log"), failure.output) from failure

    @staticmethod
    def log(work, name):
        with contextlib.suppress(OSError):
            return (work / name).read_text(errors="replace")
        return ""

    def read(self, path):
        """A file as the container sees it."""
        return pathlib.Path(f"/proc/{self.pid()}/root{path}").read_text()

    def count(self):
        """How far COUNTER has come; complains if its sum is not that of all numbers up to there."""
        number, total = map(int, self.read("/dev/shm/state").split())
        if total != number * (number + 1) // 2:
            raise Wrong(f"the numbers up to {number} add up to {number * (number + 1) // 2}, but the container has {total}")
        return number

    def wait_for_count(self, least):
        def far_enough():
            with contextlib.suppress(OSError):
                return max(0, self.count() - least + 1)
        victim.wait_until(far_enough, f"the container counts to {least}")
        return self.count()

    def facts(self):
        """What the container's surroundings look like: mounts, names, cgroup settings. Not its network, which
        runc leaves to its hooks."""
        pid = self.pid()
        out = {}
        for line in pathlib.Path(f"/proc/{pid}/mountinfo").read_text().splitlines():
            left, right = line.split(" - ")
            fields = left.split()
            root, point, options = fields[3:6]
            tags = " ".join(tag.split(":")[0] for tag in fields[6:])
            key = f"mount {point}"
            while key in out:
                key += " (above)"
            # What comes from outside comes from where runc says: other cgroups, another null device.
            if right.startswith("cgroup"):
                root = "(outside)"
            elif not os.path.isdir(f"/proc/{pid}/root{point}"):
                root = options = right = "(outside)"
            out[key] = f"{root} {options} {tags} {right}"
        out["uts"] = run(["nsenter", "-t", pid, "-u", "uname", "-n"])
        for controllers, path in tasks.groups(pid).items():
            out[f"cgroup {controllers}"] = path
            for name, text in _cgroup_settings(controllers, path):
                out[f"cgroup {controllers} {name}"] = text
        return out

    def delete(self):
        pid = self.pid()
        with contextlib.suppress(CommandFailed, subprocess.TimeoutExpired):
            self.command("delete", "-f", self.id)
        if pid and tasks.is_alive(pid):
            victim.kill_tree(pid)
        victim.reap()


class Census:
    """Counts of what a checkpoint or a restore might leave behind. Mounts and links are those of our own
    namespaces (see leave_the_others), cgroups those whose name is ours."""

    found = None  # {mount id: mount point} of the first census: what our mount namespace has begun with

    @staticmethod
    def _mount_points():
        """Who removes a directory takes the mounts on it from all mount namespaces: where both are gone, it was somebody
        who mounted there before us, and not what we look for. An unmount leaves the directory."""
        lines = pathlib.Path("/proc/self/mountinfo").read_text().splitlines()
        present = {line.split()[0]: line.split()[4] for line in lines}
        Census.found = Census.found or present
        removed = [point for id_, point in Census.found.items() if id_ not in present and not os.path.lexists(point)]
        return [*present.values(), *removed]

    @staticmethod
    def take():
        cgroups = 0
        for line in pathlib.Path("/proc/self/mountinfo").read_text().splitlines():
            if " - cgroup" in line:
                cgroups += sum(f"dormouse-{os.getpid()}-" in folder for folder, _, _ in os.walk(line.split()[4]))
        victim.reap()
        return {
            **{f"mounts on {point}": count for point, count in collections.Counter(Census._mount_points()).items()},
            "cgroups": cgroups,
            "links": len(pathlib.Path("/proc/self/net/dev").read_text().splitlines()) - 2,
            "tasks": len(tasks.tree(os.getpid())),
            "descriptors": len(os.listdir("/proc/self/fd")),
        }

    @staticmethod
    def settle(expected, seconds=5):
        """The counts, as soon as they are as expected or the time is up: the kernel takes apart
        namespaces and cgroups a little after their last task."""
        deadline = time.monotonic() + seconds
        while True:
            now = Census.take()
            if now == expected or time.monotonic() > deadline:
                return now
            time.sleep(0.02)
