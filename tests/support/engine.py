"""Runs an engine's command line on an images directory."""
import os
import pathlib
import subprocess

ROOT = pathlib.Path(__file__).resolve().parents[2]


def build_directory():
    return pathlib.Path(os.environ.get("DORMOUSE_BUILD") or ROOT / "build")


def ours():
    """The binary under test: $CRIU, or what the build made."""
    binary = os.environ.get("CRIU") or str(build_directory() / "bin/criu")
    if not os.access(binary, os.X_OK):
        raise SystemExit(f"no engine to test: {binary} (run scripts/build, or set CRIU)")
    return binary


def reference():
    return os.environ.get("REFERENCE_CRIU") or None


class Failed(Exception):
    """An engine run that ended with a failure; `log` is its log's text."""

    def __init__(self, action, code, log, output):
        self.action, self.code, self.log, self.output = action, code, log, output
        super().__init__(f"{action} ended with {code}: {'; '.join(self.errors()) or output.strip() or '(says nothing)'}")

    def errors(self):
        return [line.strip() for line in self.log.splitlines() if "Error" in line]


class Engine:
    def __init__(self, binary, images, extra=()):
        self.binary, self.images, self.extra = binary, pathlib.Path(images), list(extra)

    def command(self, action, *arguments):
        return [self.binary, action, "-D", str(self.images), "-o", f"{action}.log", "-v4", *self.extra, *arguments]

    def log(self, action):
        try:
            return (self.images / f"{action}.log").read_text(errors="replace")
        except OSError:
            return ""

    def run(self, action, *arguments, timeout=60, wrapper=()):
        self.images.mkdir(parents=True, exist_ok=True)
        result = subprocess.run([*wrapper, *self.command(action, *arguments)], stdin=subprocess.DEVNULL, timeout=timeout,
                                stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, errors="replace")
        if result.returncode != 0:
            raise Failed(action, result.returncode, self.log(action), result.stdout)
        return result.stdout

    def dump(self, pid, *arguments, **more):
        return self.run("dump", "-t", str(pid), *arguments, **more)

    def restore(self, *arguments, **more):
        """The restored root task's pid."""
        pidfile = self.images / "restored.pid"
        pidfile.unlink(missing_ok=True)
        self.run("restore", "-d", "--pidfile", str(pidfile), *arguments, **more)
        return int(pidfile.read_text())
