#!/usr/bin/env python3
"""The engine is killed at many points of its work. A victim of a killed dump must live on as it was; a
killed restore must leave nothing, or everything:

  kill.py --scratch DIRECTORY TEST      one of the functions below, without "test_"

The points are system calls of the engine: strace counts them in a first run and lets SIGKILL arrive at
chosen ones in later runs. $KILL_POINTS is how many of each call are tried (default 6; "all")."""
import ctypes
import os
import pathlib
import shutil
import signal
import socket
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


def test_dump_to_tmpfs(scratch):
    """The victim copies its pages into a mapping of the engine's, which is gone when the engine is."""
    images = scratch / "tmpfs"
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=64m", "images", images], check=True)
    try:
        sweep_dump(start("anonymous_memory_pattern", scratch / "victim"), images)
    finally:
        subprocess.run(["umount", images], check=True)


def test_dump_of_common_pages(scratch):
    """The pages that a family shares are copied once into all files: they stay shared."""
    images = scratch / "tmpfs"
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=128m", "images", images], check=True)
    man = start("cow_large", scratch / "victim")
    alone = {pid: tasks.private_kilobytes(pid) for pid in tasks.tree(man.root_pid)}

    def still_shared():
        for pid, before in alone.items():
            now = tasks.private_kilobytes(pid)
            expect(now < before + 1024, f"{now} kB of pid {pid} are its own, {before} were")
    try:
        sweep_dump(man, images, also=still_shared)
    finally:
        subprocess.run(["umount", images], check=True)


def test_dump_of_computing_threads(scratch):
    """Threads that are not in a system call: their registers are checked by themselves."""
    sweep_dump(start("fpu_sse_avx_state", scratch / "victim"), scratch)


def test_dump_of_signal_users(scratch):
    """Pending signals, an alternate stack in use, and blocked signals are what an entry into a task endangers."""
    sweep_dump(start("alt_stack_kept", scratch / "victim"), scratch)


def test_dump_of_late_timers(scratch):
    """Signals of timers are taken and the timers started again: the victim finds all of them, and what they missed."""
    sweep_dump(start("posix_timer_overruns", scratch / "victim"), scratch)


def test_dump_of_terminals(scratch):
    """What waits in a terminal is read and put back: the victim finds it all."""
    sweep_dump(start("terminal_waiting_input", scratch / "victim"), scratch)


PIDFD_OPEN, PIDFD_GETFD, SO_PEEK_OFF = 434, 438, 42


def peek_offsets(pid):
    """{descriptor: offset} of a task's sockets where it is set."""
    libc = ctypes.CDLL(None, use_errno=True)
    task = libc.syscall(PIDFD_OPEN, pid, 0)
    offsets = {}
    for entry in pathlib.Path(f"/proc/{pid}/fd").iterdir():
        if not os.readlink(entry).startswith("socket:"):
            continue
        with socket.socket(fileno=libc.syscall(PIDFD_GETFD, task, int(entry.name), 0)) as copy:
            offsets[int(entry.name)] = copy.getsockopt(socket.SOL_SOCKET, SO_PEEK_OFF)
    os.close(task)
    expect(offsets, "the victim has no socket")
    return {number: offset for number, offset in offsets.items() if offset != -1}


def test_dump_of_unix_sockets(scratch):
    """What waits in a socket is looked at with its peek offset, which would make the victim's own looks go wrong."""
    for name in ("unix_descriptors_in_flight", "unix_datagrams"):
        (scratch / name).mkdir()
        man = start(name, scratch / name / "victim")
        sweep_dump(man, scratch / name, also=lambda: victim.wait_until(
            lambda: not peek_offsets(man.root_pid), "no peek offset is left", seconds=2))


def test_dump_of_confined_threads(scratch):
    """Whose every call but a few is deadly as soon as nobody traces them. They leave the area behind, and live."""
    confined_live_on(start("seccomp_confined", scratch / "victim"), scratch)


def confined_live_on(man, scratch):
    images = scratch / "images"
    counts = count_calls(dump_command(man, images), scratch / "calls")
    killed = tried = 0
    for call, nth in points(counts):
        tried += 1
        killed += run_and_kill(dump_command(man, images), call, nth)
        expect(tasks.is_alive(man.root_pid), f"killed at {call} number {nth}: the victim died ({man.verdict()})")
    expect(killed > tried // 2, f"only {killed} of {tried} points were reached")
    expect_pass(man)


def start_32(name, directory):
    program = PROGRAMS / "workloads" / f"{name}_32"
    return start(program.name, directory) if program.exists() else None


NO_32 = "no compiler here for 32-bit programs"


def test_dump_of_32_bit_threads(scratch):
    man = start_32("threads_with_tls", scratch / "victim")
    return sweep_dump(man, scratch) if man else NO_32


def test_dump_of_32_bit_signal_users(scratch):
    man = start_32("alt_stack_kept", scratch / "victim")
    return sweep_dump(man, scratch) if man else NO_32


def test_dump_of_confined_32_bit_code(scratch):
    """Among the few calls that are left to it are those with which 32-bit code returns from a handler."""
    man = start_32("seccomp_confined", scratch / "victim")
    return confined_live_on(man, scratch) if man else NO_32


def register_changes(command, report):
    """Which of a run's ptrace calls (counted from 1) give a thread other registers."""
    subprocess.run(["strace", "-qq", "-e", "trace=ptrace", "-o", str(report), *command], stdin=subprocess.DEVNULL,
                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, timeout=120, check=True)
    calls = [line for line in report.read_text().splitlines() if line.startswith("ptrace(")]
    return [number for number, line in enumerate(calls, 1) if "PTRACE_SETREGS," in line]


def test_dump_as_threads_enter(scratch):
    """A thread is about to enter the interpreter, and does not. The others must not wait for it, nor take the area from under
    it, nor leave it there: a new victim for each point, since one that hangs looks asleep."""
    images = scratch / "images"
    changes = register_changes(dump_command(start("threads_with_tls", scratch / "counted"), images), scratch / "calls")
    expect(len(changes) > 80, f"only {len(changes)} changes of registers for 41 threads")  # in and out
    wanted = os.environ.get("KILL_POINTS", "12")
    step = 1 if wanted == "all" else len(changes) // int(wanted)
    killed = 0
    for nth in changes[::step]:
        man = start("threads_with_tls", scratch / f"victim-{nth}")
        before = tasks.stable_snapshot(man.root_pid, at_rest=True)
        killed += run_and_kill(dump_command(man, images), "ptrace", nth)
        expect_unchanged(before, man.root_pid, f"killed at ptrace number {nth}")
        try:
            expect_pass(man)
        except (Wrong, TimeoutError) as wrong:
            raise Wrong(f"killed at ptrace number {nth}: {wrong}") from None
    expect(killed > len(changes[::step]) // 2, f"only {killed} points were reached")


def test_pre_dump_of_a_tree(scratch):
    """Whether memory is tracked afterwards or not, the victim is unchanged."""
    man = start("forked_tree_with_pids", scratch / "victim", "namespaces")
    images = scratch / "images"
    before = tasks.stable_snapshot(man.root_pid, at_rest=True)
    tasks.flags_of_no_interest.add("uw")

    def command():
        shutil.rmtree(images, ignore_errors=True)
        images.mkdir()
        return engine.Engine(engine.ours(), images).command("pre-dump", "-t", str(man.root_pid), *man.dump_arguments)
    killed = tried = 0
    # The first run is another: it is the one that makes the descriptors.
    for call, nth in points(count_calls(command(), scratch / "calls")):
        engine.Engine(engine.ours(), images).dump(man.root_pid, "--leave-running", *man.dump_arguments)  # tracking ends
        tried += 1
        killed += run_and_kill(command(), call, nth)
        expect_unchanged(before, man.root_pid, f"killed at {call} number {nth}")
    expect(killed > tried // 2, f"only {killed} of {tried} points were reached")
    expect_pass(man)


def test_pre_dump_in_a_chain(scratch):
    """A pre-dump is killed that was to follow another: a dump on top of the other has every page as it is, whatever
    marks the killed one has taken."""
    man = start("memory_written_all_the_time", scratch / "victim")
    images = [scratch / str(number) for number in range(3)]

    def clear():
        for directory in images:
            shutil.rmtree(directory, ignore_errors=True)
            directory.mkdir()

    def pre_dump():
        clear()
        engine.Engine(engine.ours(), images[0]).run("pre-dump", "-t", str(man.root_pid))
        return engine.Engine(engine.ours(), images[1]).command("pre-dump", "-t", str(man.root_pid), "--prev-images-dir", "../0")
    counts = {call: count for call, count in count_calls(pre_dump(), scratch / "calls").items()
              if call in ("ioctl", "ptrace", "pwrite64", "process_vm_readv", "renameat2", "renameat", "clone3", "pidfd_send_signal", "memfd_create")}
    killed = tried = 0
    for call, nth in points(counts):
        tried += 1
        killed += run_and_kill(pre_dump(), call, nth)
        dumped = tasks.identities(man.root_pid)
        engine.Engine(engine.ours(), images[2]).dump(man.root_pid, "--track-mem", "--prev-images-dir", "../0")
        victim.wait_until_gone(dumped)
        man.root_pid = engine.Engine(engine.ours(), images[2]).restore()
        time.sleep(0.02)
        expect(tasks.is_alive(man.root_pid), f"killed at {call} number {nth}: {man.verdict()}")
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
