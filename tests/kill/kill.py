#!/usr/bin/env python3
"""The engine is killed at many points of its work. A victim of a killed dump must live on as it was; a
killed restore must leave nothing, or everything:

  kill.py --scratch DIRECTORY TEST      one of the functions below, without "test_"

The points are system calls of the engine: strace counts them in a first run and lets SIGKILL arrive at
chosen ones in later runs. $KILL_POINTS is how many of each call are tried (default 6; "all")."""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import engine, harness, tasks, victim  # noqa: E402
from support.harness import Wrong, expect, expect_pass, expect_unchanged  # noqa: E402

PROGRAMS = engine.build_directory() / "tests"


def start(name, directory, flavour="host"):
    return victim.make(flavour, PROGRAMS / "workloads" / name, directory, PROGRAMS / "nest").start()


def count_calls(command, report):
    """{system call: how often} of one whole run, of the engine's own process."""
    subprocess.run(["strace", "-qq", "-c", "-U", "name,calls", "-o", str(report), *command], stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=True)
    counts = {}
    for line in report.read_text().splitlines():
        words = line.split()
        if len(words) == 2 and words[1].isdigit() and words[0] != "total":
            counts[words[0]] = int(words[1])
    return counts


# Calls that come before any work, or say nothing about it.
DULL = {"execve", "brk", "arch_prctl", "set_tid_address", "set_robust_list", "rseq", "prlimit64", "getrandom", "mprotect", "exit_group", "getpid"}


def points(counts):
    """(system call, n-th) in a sensible spread over all calls."""
    wanted = os.environ.get("KILL_POINTS", "6")
    for call, count in sorted(counts.items()):
        if call in DULL:
            continue
        some = count if wanted == "all" else min(count, int(wanted))
        for index in range(some):
            yield call, 1 + (count - 1) * index // max(1, some - 1)


def run_and_kill(command, call, nth):
    """True if the engine was killed there, False if it came to its end."""
    result = subprocess.run(["strace", "-qq", "-o", "/dev/null", "-e", f"trace={call}", "-e", f"inject={call}:signal=KILL:when={nth}", *command],
                            stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=60)
    return result.returncode in (137, -signal.SIGKILL)


def dump_command(man, images, *more):
    shutil.rmtree(images, ignore_errors=True)
    images.mkdir()
    return engine.Engine(engine.ours(), images).command("dump", "-t", str(man.root_pid), "--leave-running", *man.dump_arguments, *more)


def sweep_dump(man, scratch, *more, also=lambda: None):
    """Kills a dump at every point; the victim must be unchanged after each, and then still be able to be
    dumped, restored and pass."""
    images = scratch / "images"
    before = tasks.stable_snapshot(man.root_pid, at_rest=True)
    counts = count_calls(dump_command(man, images, *more), scratch / "calls")
    expect("ptrace" in counts, f"the engine makes no ptrace call: {counts}")
    expect_unchanged(before, man.root_pid, "after the dump under strace")
    killed = tried = 0
    problems = []
    for call, nth in points(counts):
        tried += 1
        killed += run_and_kill(dump_command(man, images, *more), call, nth)
        try:
            expect_unchanged(before, man.root_pid, f"killed at {call} number {nth}")
            also()
        except Wrong as wrong:
            problems.append(str(wrong))
            if not tasks.is_alive(man.root_pid):
                problems.append(f"the victim died (verdict: {man.verdict()})")
                break
    print(f"{killed} kills at {tried} points of {sum(counts.values())} system calls, {len(problems)} with harm")
    expect(not problems, "\n".join(problems[:10]))
    expect(killed > tried // 2, f"only {killed} of {tried} points were reached")
    shutil.rmtree(images)
    dumped = tasks.identities(man.root_pid)
    engine.Engine(engine.ours(), images).dump(man.root_pid, *man.dump_arguments)
    victim.wait_until_gone(dumped)
    man.root_pid = engine.Engine(engine.ours(), images).restore(*man.restore_arguments)
    expect_pass(man)


def test_dump_of_threads(scratch):
    sweep_dump(start("threads_with_tls", scratch / "victim"), scratch)


def test_dump_of_a_tree(scratch):
    sweep_dump(start("forked_tree_with_pids", scratch / "victim", "namespaces"), scratch)


def test_dump_of_computing_threads(scratch):
    """Threads that are not in a system call: their registers are checked by themselves."""
    sweep_dump(start("fpu_sse_avx_state", scratch / "victim"), scratch)


def test_dump_of_signal_users(scratch):
    """Pending signals, an alternate stack in use, and blocked signals are what an entry into a task endangers."""
    sweep_dump(start("alt_stack_kept", scratch / "victim"), scratch)


def test_dump_of_confined_threads(scratch):
    """Whose every call but a few is deadly as soon as nobody traces them. They leave the area behind, and live."""
    man = start("seccomp_confined", scratch / "victim")
    images = scratch / "images"
    counts = count_calls(dump_command(man, images), scratch / "calls")
    killed = tried = 0
    for call, nth in points(counts):
        tried += 1
        killed += run_and_kill(dump_command(man, images), call, nth)
        expect(tasks.is_alive(man.root_pid), f"killed at {call} number {nth}: the victim died ({man.verdict()})")
    expect(killed > tried // 2, f"only {killed} of {tried} points were reached")
    expect_pass(man)


def test_dump_at_any_time(scratch):
    """As above, by the clock: delays from nothing to longer than a dump takes."""
    man = start("threads_with_tls", scratch / "victim")
    images = scratch / "images"
    before = tasks.stable_snapshot(man.root_pid, at_rest=True)
    begin = time.monotonic()
    subprocess.run(dump_command(man, images), check=True, stdout=subprocess.DEVNULL)
    duration = time.monotonic() - begin
    killed = 0
    for step in range(40):
        process = subprocess.Popen(dump_command(man, images), stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(duration * 1.2 * step / 40)
        except subprocess.TimeoutExpired:
            process.kill()
            killed += 1
            process.wait()
        expect_unchanged(before, man.root_pid, f"killed after {duration * 1.2 * step / 40 * 1000:.1f} ms")
    expect(killed >= 10, f"only {killed} of 40 dumps were killed")
    expect_pass(man)


def freezer_cgroup():
    """(folder, file, text when thawed) of a fresh cgroup that can be frozen."""
    name = f"dormouse-{os.getpid()}"
    for top, file, thawed in (("/sys/fs/cgroup/freezer", "freezer.state", "THAWED"), ("/sys/fs/cgroup", "cgroup.freeze", "0"),
                              ("/sys/fs/cgroup/unified", "cgroup.freeze", "0")):
        folder = pathlib.Path(top) / name
        try:
            folder.mkdir()
        except OSError:
            continue
        if (folder / file).exists():
            return folder, file, thawed
        folder.rmdir()
    return None


def test_frozen_cgroup_is_thawed(scratch):
    """With --freeze-cgroup, a killed engine leaves the cgroup as it found it."""
    found = freezer_cgroup()
    if not found:
        return "no cgroup can be frozen on this machine"
    folder, file, thawed = found
    man = start("threads_with_tls", scratch / "victim")
    try:
        (folder / "cgroup.procs").write_text(str(man.root_pid))

        def is_thawed():
            victim.wait_until(lambda: (folder / file).read_text().strip() == thawed, f"{file} is {thawed} again", seconds=5)
        sweep_dump(man, scratch, "--freeze-cgroup", str(folder), also=is_thawed)
    finally:
        (folder / file).write_text(thawed)
        victim.kill_descendants()
        victim.wait_until(lambda: not (folder / "cgroup.procs").read_text(), "the cgroup is empty")
        folder.rmdir()


def sweep_restore(man, scratch):
    """Kills a restore at every point: afterwards there is nothing of it, or all of it."""
    images = scratch / "images"
    whole = tasks.stable_snapshot(man.root_pid)
    dumped = tasks.identities(man.root_pid)
    engine.Engine(engine.ours(), images).dump(man.root_pid, *man.dump_arguments)
    victim.wait_until_gone(dumped)
    restorer = engine.Engine(engine.ours(), images)
    command = restorer.command("restore", "-d", "--pidfile", str(images / "pid"), *man.restore_arguments)
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()

    def clear():
        victim.kill_descendants()
        (images / "pid").unlink(missing_ok=True)

    counts = count_calls(command, scratch / "calls")
    clear()
    killed = tried = survived = 0
    problems = []
    for call, nth in points(counts):
        tried += 1
        killed += run_and_kill(command, call, nth)

        def settled():
            victim.reap()
            roots = [pid for pid in tasks.tree(os.getpid())[1:] if tasks.status(pid).get("PPid") == str(os.getpid())]
            return not roots or len(roots) == 1 and not tasks.differences(whole, tasks.snapshot(roots[0]))
        try:
            victim.wait_until(settled, "nothing or everything is there", seconds=3)
        except TimeoutError:
            left = {pid: tasks.status(pid).get("Name") for pid in tasks.tree(os.getpid())[1:]}
            problems.append(f"killed at {call} number {nth}: half of it is left: {left}")
        survived += len(tasks.tree(os.getpid())) > 1
        clear()
        if pathlib.Path("/proc/self/mountinfo").read_text() != mounts:
            problems.append(f"killed at {call} number {nth}: a mount is left")
            break
    print(f"{killed} kills at {tried} points of {sum(counts.values())} system calls; {survived} times it was all there, {len(problems)} times half")
    expect(not problems, "\n".join(problems[:10]))
    man.root_pid = restorer.restore(*man.restore_arguments)
    expect_pass(man)


def test_restore_of_threads(scratch):
    sweep_restore(start("threads_with_tls", scratch / "victim"), scratch)


def test_restore_of_a_tree(scratch):
    sweep_restore(start("pipe_shared_between_processes", scratch / "victim", "namespaces"), scratch)


if __name__ == "__main__":
    sys.exit(harness.main(globals(), lacking=lambda: [] if shutil.which("strace") else ["strace"]))
