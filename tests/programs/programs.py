#!/usr/bin/env python3
"""Programs as people run them, in containers under runc: each computes something once undisturbed and once
with checkpoints and restores in the middle, and both times the result must be the same.

  programs.py --scratch DIRECTORY TEST      one of the functions below, without "test_".

A program sees this machine's /usr and /etc, read-only, and a folder /job of its own. $WORK says how much it is to
do, $SEED what about: its result depends on both. DORMOUSE_PROGRAMS_SEED=2 gives the disturbed run another seed
than the undisturbed one, and every test then has to fail (program.other_result_is_noticed shows it for one)."""
import contextlib
import os
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from support import engine, harness, tasks, victim  # noqa: E402
from support.container import CommandFailed, Container, missing_tools, run  # noqa: E402
from support.harness import Wrong, expect  # noqa: E402

VICTIMS = HERE / "victims"
ROUNDS = 3
SEED = "1"
PATIENCE = 150  # seconds for what takes a few on an idle machine


class Differs(Wrong):
    """The result is not that of an undisturbed run."""


def bind(source, destination, *options):
    return {"type": "bind", "source": str(source), "destination": destination, "options": ["rbind", *options]}


class Job:
    """One container that runs one command; what it prints is its result."""

    def __init__(self, scratch, inputs, command, work, seed):
        self.folder = scratch / "job"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for file in inputs:
            shutil.copy(file, self.folder)

        def change(config):
            config["mounts"] += [bind("/usr", "/usr", "ro"), bind("/etc", "/etc", "ro"), bind(self.folder, "/job")]
            config["process"]["env"] += [f"WORK={work}", f"SEED={seed}"]

        script = f"({command}) >/job/result 2>/job/errors; echo $? >/job/new; mv /job/new /job/status"
        self.container = Container(scratch / "container", ["/usr/bin/sh", "-c", script], change=change)
        rootfs = self.container.bundle / "rootfs"
        for name in ("usr", "job"):
            (rootfs / name).mkdir()
        for name in ("lib", "lib64"):
            (rootfs / name).symlink_to(f"usr/{name}")
        self.init = []

    def is_over(self):
        return (self.folder / "status").exists()

    def note_init(self):
        """The first task of the container's pid namespace is the last to go."""
        pid = self.container.pid()
        self.init = [tasks.identity(pid)] if pid else []

    def start(self):
        self.container.start()
        self.note_init()
        return self

    def there_and_back(self, images, options):
        """False if the program was over before the checkpoint."""
        try:
            self.container.checkpoint(images, *options)
        except engine.Failed:
            if self.is_over():
                return False
            raise
        victim.wait_until_gone(self.init)
        self.container.restore(images, *options)
        self.note_init()
        return True

    def result(self):
        """Waits for the end; what the command printed."""
        def over():
            victim.reap()
            return not tasks.remaining(self.init)
        victim.wait_until(over, "the container ends", PATIENCE)
        errors = (self.folder / "errors").read_text()
        expect(self.is_over(), f"the container ended before the program did: {errors[-2000:]}")
        status = (self.folder / "status").read_text().strip()
        expect(status == "0", f"the program ended with {status}: {errors[-2000:]}")
        return (self.folder / "result").read_text()


def disturbed(job, pause, scratch, options):
    """The result of a job that is checkpointed ROUNDS times; None if it was over before the last of them."""
    job.start()
    for number in range(1, ROUNDS + 1):
        time.sleep(pause)
        images = scratch / f"images-{number}"
        if not job.there_and_back(images, options):
            return None
        shutil.rmtree(images)
    return job.result()


def same_result(scratch, inputs, command, *options):
    """What ROUNDS checkpoints and restores in the midst of the command may not change. `options` are runc's."""
    # How fast it gets on depends on this machine and on what else that does.
    for work in (1, 3, 9):
        job = Job(scratch / "undisturbed", inputs, command, work, SEED)
        begin = time.monotonic()
        expected = job.start().result()
        took = time.monotonic() - begin
        job.container.delete()
        expect(expected.strip(), "the program says nothing")
        job = Job(scratch / "disturbed", inputs, command, work, os.environ.get("DORMOUSE_PROGRAMS_SEED", SEED))
        found = disturbed(job, took / 8, scratch, options)
        if found is not None:
            break
        job.container.delete()
    expect(found is not None, f"the program is over before {ROUNDS} checkpoints are made; undisturbed it takes {took:.1f} s")
    if found != expected:
        raise Differs(f"undisturbed the result is\n{expected[-1000:]}\nand with {ROUNDS} checkpoints\n{found[-1000:]}")
    print(f"work {work}: {took:.1f} s undisturbed, {time.monotonic() - begin - took:.1f} s with {ROUNDS} checkpoints")


def lacks(program, package):
    return None if shutil.which(program) else f"{program} is not installed (Debian: {package})"


def compiled(scratch, source, *options):
    """A C program, linked against this machine's libraries."""
    binary = scratch / pathlib.Path(source).stem
    run(["gcc", "-O2", "-std=gnu17", "-pthread", *options, VICTIMS / source, "-o", binary])
    return binary


def test_jvm(scratch):
    """A Java virtual machine: fifty threads, compiled while they run, and a collector that moves their objects."""
    return lacks("java", "default-jre-headless") or same_result(
        scratch, [VICTIMS / "Collector.java"], "java -XX:+UseG1GC -Xmx128m /job/Collector.java")


def test_python_processes(scratch):
    """Python's multiprocessing: shared memory, locks and queues between processes."""
    return lacks("/usr/bin/python3", "python3") or same_result(
        scratch, [VICTIMS / "shared_sums.py"], "/usr/bin/python3 /job/shared_sums.py")


def test_vectors(scratch):
    """OpenMP with the widest vectors of the processor."""
    binary = compiled(scratch, "vectors.c", "-fopenmp", "-O3", "-march=native", "-mprefer-vector-width=512")
    return same_result(scratch, [binary], "OMP_WAIT_POLICY=passive /job/vectors")


def test_thousand_threads(scratch):
    """A process of a thousand threads that wait for each other all the time."""
    return same_result(scratch, [compiled(scratch, "thousand_threads.c")], "/job/thousand_threads")


def test_zstd_pipeline(scratch):
    """A pipeline of processes, two of which compress and decompress with several threads."""
    return lacks("zstd", "zstd") or same_result(
        scratch, [], "seq $SEED $((7000000 * WORK)) | zstd -q -T4 -9 | tee /job/compressed | zstd -q -d | sha256sum")


def test_bash_jobs(scratch):
    """bash with background jobs, traps and signals."""
    return same_result(scratch, [VICTIMS / "jobs.bash"], "bash /job/jobs.bash")


def test_perl_timers(scratch):
    """perl, interrupted by two interval timers."""
    return lacks("perl", "perl") or same_result(scratch, [VICTIMS / "timers.pl"], "perl /job/timers.pl")


def test_sqlite(scratch):
    """sqlite writes transactions to a database that it locks, with a journal."""
    return lacks("sqlite3", "sqlite3") or same_result(scratch, [VICTIMS / "database.sh"], "sh /job/database.sh", "--file-locks")


def test_gcc(scratch):
    """gcc compiles a large file; the object is the same to the bit."""
    return same_result(scratch, [VICTIMS / "compile.sh"], "sh /job/compile.sh")


def test_go(scratch):
    """A Go program: hundreds of goroutines, moved between threads by signals of the runtime."""
    absent = lacks("go", "golang-go")
    if absent:
        return absent
    binary = scratch / "routines"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(scratch), "GOCACHE": str(scratch / "go-cache"), "GO111MODULE": "off"}
    run(["go", "build", "-o", binary, VICTIMS / "routines.go"], timeout=PATIENCE, env=environment)
    return same_result(scratch, [binary], "/job/routines")


def test_go_compiler(scratch):
    """Go's compiler: a Go program with a busy collector that reads and writes files."""
    return lacks("go", "golang-go") or same_result(scratch, [VICTIMS / "go_compiler.sh"], "sh /job/go_compiler.sh")


def test_other_result_is_noticed(scratch):
    """These tests can fail: with another result in the disturbed run, one does, and says so."""
    os.environ["DORMOUSE_PROGRAMS_SEED"] = "2"
    try:
        test_bash_jobs(scratch)
    except Differs:
        return
    raise Wrong("another result was not noticed")


def clean_up():
    for container in Container.made:
        with contextlib.suppress(CommandFailed, TimeoutError, engine.Failed, subprocess.SubprocessError):
            container.delete()


if __name__ == "__main__":
    sys.exit(harness.main(globals(), clean_up, missing_tools))
