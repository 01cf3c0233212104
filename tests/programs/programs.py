#!/usr/bin/env python3
"""Programs as people run them, in containers under runc: each computes something once undisturbed and once
with checkpoints and restores in the middle, and both times the result must be the same.

  programs.py --scratch DIRECTORY TEST      one of the functions below, without "test_".

A program sees this machine's /usr and /etc, read-only, and a folder /job of its own."""
import contextlib
import pathlib
import shutil
import subprocess
import sys
import time

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent))
from support import engine, harness, tasks, victim  # noqa: E402
from support.container import CommandFailed, Container, missing_tools, run  # noqa: E402
from support.harness import expect  # noqa: E402

VICTIMS = HERE / "victims"
ROUNDS = 3
PATIENCE = 150  # seconds for what takes a few on an idle machine


def bind(source, destination, *options):
    return {"type": "bind", "source": str(source), "destination": destination, "options": ["rbind", *options]}


class Job:
    """One container that runs one command; what it prints is its result."""

    def __init__(self, scratch, inputs, command):
        self.folder = scratch / "job"
        shutil.rmtree(self.folder, ignore_errors=True)
        self.folder.mkdir(parents=True)
        for file in inputs:
            shutil.copy(file, self.folder)

        def change(config):
            config["mounts"] += [bind("/usr", "/usr", "ro"), bind("/etc", "/etc", "ro"), bind(self.folder, "/job")]
            # What the program is, not what runc's example allows: a thousand threads have descriptors, too.
            config["process"]["rlimits"] = []

        script = f"({command}) >/job/result 2>/job/errors; echo $? >/job/new; mv /job/new /job/status"
        self.container = Container(scratch / "container", ["/usr/bin/sh", "-c", script], change=change)
        rootfs = self.container.bundle / "rootfs"
        for name in ("usr", "job"):
            (rootfs / name).mkdir()
        for name in ("lib", "lib64"):
            (rootfs / name).symlink_to(f"usr/{name}")
        self.begin = None

    def is_over(self):
        return (self.folder / "status").exists()

    def start(self):
        self.begin = time.monotonic()
        self.container.start()
        return self

    def result(self):
        """Waits for the end; what the command printed, and how long it took since the start."""
        def over():
            victim.reap()
            return self.is_over() or self.container.pid() is None
        victim.wait_until(over, "the program ends", PATIENCE)
        took = time.monotonic() - self.begin
        errors = (self.folder / "errors").read_text()
        expect(self.is_over(), f"the container ended before the program did: {errors[-2000:]}")
        status = (self.folder / "status").read_text().strip()
        expect(status == "0", f"the program ended with {status}: {errors[-2000:]}")
        victim.wait_until(lambda: (victim.reap(), self.container.pid() is None)[1], "the container ends")
        return (self.folder / "result").read_text(), took

    def there_and_back(self, images):
        dumped = tasks.identities(self.container.pid())
        self.container.checkpoint(images)
        victim.wait_until_gone(dumped)
        self.container.restore(images)


def disturbed(job, pause, scratch):
    """The result of a job that is checkpointed ROUNDS times; None if it was over before the last of them."""
    job.start()
    for number in range(1, ROUNDS + 1):
        time.sleep(pause)
        images = scratch / f"images-{number}"
        try:
            job.there_and_back(images)
        except engine.Failed:
            if job.is_over():
                return None
            raise
        shutil.rmtree(images)
    return job.result()[0]


def same_result(scratch, inputs, command):
    """What ROUNDS checkpoints and restores in the midst of the command may not change."""
    undisturbed = Job(scratch / "undisturbed", inputs, command)
    expected, took = undisturbed.start().result()
    undisturbed.container.delete()
    expect(expected.strip(), "the program says nothing")
    # How fast it gets on depends on what else this machine does.
    for share in (8, 16, 32):
        job = Job(scratch / "disturbed", inputs, command)
        found = disturbed(job, took / share, scratch)
        if found is not None:
            break
        job.container.delete()
    expect(found is not None, f"the program is over before {ROUNDS} checkpoints are made; undisturbed it takes {took:.1f} s")
    expect(found == expected, f"undisturbed the result is\n{expected[-1000:]}\nand with {ROUNDS} checkpoints\n{found[-1000:]}")
    print(f"undisturbed {took:.1f} s")


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
        scratch, [VICTIMS / "Collector.java"], "java -XX:+UseG1GC -Xmx128m -Dsteps=12000 /job/Collector.java")


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
        scratch, [], "seq 1 4000000 | zstd -q -T4 -9 | tee /job/compressed | zstd -q -d | sha256sum")


def test_bash_jobs(scratch):
    """bash with background jobs, traps and signals."""
    return same_result(scratch, [VICTIMS / "jobs.bash"], "bash /job/jobs.bash")


def test_perl_timers(scratch):
    """perl, interrupted by two interval timers."""
    return lacks("perl", "perl") or same_result(scratch, [VICTIMS / "timers.pl"], "perl /job/timers.pl")


def test_sqlite(scratch):
    """sqlite writes transactions to a database, with a journal; without locks on the file, which are refused."""
    return lacks("sqlite3", "sqlite3") or same_result(scratch, [VICTIMS / "database.sh"], "sh /job/database.sh")


def test_gcc(scratch):
    """gcc compiles a large file; the object is the same to the bit."""
    functions = "\n".join(
        f"double f{n}(double *a, int n) {{ double s = {n}; for (int i = 0; i < n; ++i) {{ s += a[i] * {n % 7 + 1}; if (s > {n}) s /= {n % 5 + 2}; "
        f"switch ((int)s & 7) {{ case {n % 8}: s *= 1.5; break; case {(n + 3) % 8}: a[i] = s; }} }} return s{f' + f{n - 1}(a, n)' if n else ''}; }}"
        for n in range(200))
    source = scratch / "large.c"
    source.write_text(functions)
    return same_result(scratch, [source], "gcc -O2 -c /job/large.c -o /job/large.o && sha256sum </job/large.o")


def test_go(scratch):
    """A Go program: hundreds of goroutines, moved between threads by signals of the runtime."""
    absent = lacks("go", "golang-go")
    if absent:
        return absent
    binary = scratch / "routines"
    environment = {"PATH": "/usr/bin:/bin", "HOME": str(scratch), "GOCACHE": str(scratch / "go-cache"), "GOFLAGS": "-mod=mod", "GO111MODULE": "off"}
    run(["go", "build", "-o", binary, VICTIMS / "routines.go"], timeout=PATIENCE, env=environment)
    return same_result(scratch, [binary], "/job/routines")


def clean_up():
    for container in Container.made:
        with contextlib.suppress(CommandFailed, TimeoutError, engine.Failed, subprocess.SubprocessError):
            container.delete()


if __name__ == "__main__":
    sys.exit(harness.main(globals(), clean_up, missing_tools))
