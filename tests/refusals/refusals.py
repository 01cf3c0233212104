#!/usr/bin/env python3
"""What cannot be done is refused in one line that says which object, whose, why, and what to do; and the
victim of a refused dump is as it was, and a refused restore leaves nothing behind:

  refusals.py --scratch DIRECTORY TEST      one of the functions below, without "test_"."""
import ctypes
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import engine, harness, tasks, victim  # noqa: E402
from support.harness import Wrong, check_lines, dump_is_refused, expect, expect_pass  # noqa: E402

PROGRAMS = engine.build_directory() / "tests"


def workload(name):
    return PROGRAMS / "workloads" / name


def refused(name):
    return PROGRAMS / "refusals" / name


def start(program, directory, flavour="host"):
    return victim.make(flavour, program, directory, PROGRAMS / "nest").start()


def restore_is_refused(man, images, *mentioned, arguments=None, **more):
    """Also: no task and no mount of it is left."""
    mounts = pathlib.Path("/proc/self/mountinfo").read_text()
    present = set(tasks.tree(os.getpid()))
    try:
        engine.Engine(engine.ours(), images).restore(*(man.restore_arguments if arguments is None else arguments))
    except engine.Failed as failure:
        check_lines(failure, *mentioned, **more)
    else:
        raise Wrong("the restore succeeded")

    def left():
        victim.reap()
        return {pid: tasks.status(pid).get("Name") for pid in tasks.tree(os.getpid()) if pid not in present}
    try:
        victim.wait_until(lambda: not left(), "", seconds=2)
    except TimeoutError:
        raise Wrong(f"the refused restore left tasks: {left()}") from None
    expect(pathlib.Path("/proc/self/mountinfo").read_text() == mounts, "the refused restore left a mount")


def restore_and_pass(man, images, *arguments):
    man.root_pid = engine.Engine(engine.ours(), images).restore(*man.restore_arguments, *arguments)
    expect_pass(man)


def dump(man, images, *arguments):
    dumped = tasks.identities(man.root_pid)
    engine.Engine(engine.ours(), images).dump(man.root_pid, *man.dump_arguments, *arguments)
    victim.wait_until_gone(dumped)
    return [pid for pid, _ in dumped]


def _unsupported(scratch, name, *mentioned):
    man = start(refused(name), scratch / "victim")
    if man.verdict():
        return man.verdict()
    dump_is_refused(man, scratch / "images", *mentioned)
    expect_pass(man)


def test_landlock(scratch):
    return _unsupported(scratch, "landlock", ("Landlock", "thread "))


def test_timer_of_a_thread(scratch):
    return _unsupported(scratch, "timer_of_a_thread", ("CPU time of one thread", "timer 0"))


def test_io_uring(scratch):
    return _unsupported(scratch, "io_uring", ("io_uring", "descriptor 3"))


def test_bpf_program(scratch):
    return _unsupported(scratch, "bpf_program", ("bpf", "descriptor 3"))


def test_userfaultfd(scratch):
    return _unsupported(scratch, "userfaultfd", ("userfaultfd", "descriptor 3"))


def test_all_blockers_are_told(scratch):
    """Two processes with something unsupported each: both are named at once."""
    return _unsupported(scratch, "two_at_once", "descriptor 55", "descriptor 66")


def test_traced_victim(scratch):
    """A task that somebody else traces is named, with its tracer."""
    PTRACE_SEIZE, PTRACE_DETACH, PTRACE_INTERRUPT = 0x4206, 17, 0x4207
    libc = ctypes.CDLL(None, use_errno=True)
    libc.ptrace.argtypes = [ctypes.c_long, ctypes.c_long, ctypes.c_void_p, ctypes.c_void_p]
    man = start(workload("zombie_child_with_exit_code"), scratch / "victim")
    expect(libc.ptrace(PTRACE_SEIZE, man.root_pid, None, None) == 0, "cannot trace")
    dump_is_refused(man, scratch / "images", str(os.getpid()))
    libc.ptrace(PTRACE_INTERRUPT, man.root_pid, None, None)
    os.waitpid(man.root_pid, 0x40000000)  # __WALL
    expect(libc.ptrace(PTRACE_DETACH, man.root_pid, None, None) == 0, "cannot let go")
    expect_pass(man)


def test_no_such_task(scratch):
    images = scratch / "images"
    try:
        engine.Engine(engine.ours(), images).dump(4194303)
    except engine.Failed as failure:
        check_lines(failure, "4194303", owner=False)
        return
    raise Wrong("the dump succeeded")


def test_session_outside(scratch):
    """A task whose session leader is not part of the tree needs --shell-job, and the message says so."""
    program = workload("mprotect_none")
    man = victim.Victim(program, scratch / "victim")
    null = os.open("/dev/null", os.O_RDWR)
    os.setsid()
    child = subprocess.Popen([str(program), str(man.directory)], stdin=null, stdout=null, stderr=null, cwd="/", env={})
    child.returncode = 0
    man.root_pid = child.pid
    man.wait_until_ready()
    dump_is_refused(man, scratch / "images", "--shell-job")
    dump(man, scratch / "images", "--shell-job")
    restore_and_pass(man, scratch / "images", "--shell-job")


def test_pid_taken(scratch):
    """The pid that a task must have is somebody else's: both are named, nothing is left, and later it works."""
    man = start(workload("forked_tree_with_pids"), scratch / "victim")
    images = scratch / "images"
    wanted = dump(man, images)[-1]
    squatter = int(subprocess.run([refused("take_pid"), str(wanted)], stdout=subprocess.PIPE, check=True, text=True).stdout)
    expect(squatter == wanted, "the squatter has another pid")
    restore_is_refused(man, images, (str(wanted), "take_pid"))
    victim.kill_tree(squatter)
    restore_and_pass(man, images)


def test_disk_full(scratch):
    """The images do not fit: the victim goes on, and once there is room the same dump works."""
    man = start(workload("anonymous_memory_pattern"), scratch / "victim")
    images = scratch / "images"
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "images", images], check=True)
    dump_is_refused(man, images, "ENOSPC", owner=False)
    subprocess.run(["mount", "-o", "remount,size=64m", images], check=True)
    dump(man, images)
    restore_and_pass(man, images)
    subprocess.run(["umount", images], check=True)


def image_files(images):
    return sorted(file for file in images.iterdir() if file.suffix == ".img" or file.name == "dormouse.json")


def test_damaged_images(scratch):
    """Every image file in turn, cut short in four ways, gone, and with one bit flipped at eight places: each
    time the restore names the file. The undamaged image restores."""
    man = start(workload("pipe_shared_between_processes"), scratch / "victim", "namespaces")
    images = scratch / "images"
    dump(man, images)
    attempts = 0
    problems = []

    def attempt(name, what):
        nonlocal attempts
        attempts += 1
        try:
            restore_is_refused(man, images, name, owner=False)
        except Wrong as wrong:
            problems.append(f"{name} {what}: {wrong}")
            victim.kill_descendants()

    for file in image_files(images):
        good = file.read_bytes()
        size = len(good)
        for length in sorted({0, min(3, size), size // 2, size - 1} - {size}):
            if length >= 0:
                file.write_bytes(good[:length])
                attempt(file.name, f"cut to {length} of {size} bytes")
        if file.name != "dormouse.json":  # without the manifest it is an image of another engine
            file.unlink()
            attempt(file.name, "missing")
        for place in sorted({0, 5, size // 5, 2 * size // 5, size // 2, 3 * size // 5, 4 * size // 5, size - 1}):
            if 0 <= place < size:
                file.write_bytes(good[:place] + bytes([good[place] ^ 0x10]) + good[place + 1:])
                attempt(file.name, f"with a bit of byte {place} of {size} flipped")
        file.write_bytes(good)
    expect(not problems, f"{len(problems)} of {attempts} damages:\n  " + "\n  ".join(problems[:25]))
    restore_and_pass(man, images)


def test_not_a_checkpoint(scratch):
    man = start(workload("mprotect_none"), scratch / "victim")
    (scratch / "empty").mkdir()
    restore_is_refused(man, scratch / "empty", "inventory.img", owner=False)
    expect_pass(man)


def test_external_mount(scratch):
    """A mount from outside is refused by name unless it is said to be external, on both sides."""
    outside = scratch / "outside"
    outside.mkdir()
    (outside / "file").write_text("from outside")
    man = victim.NamespacedVictim(workload("umask_cwd_root"), scratch / "victim", PROGRAMS / "nest")
    man.bind = (outside, "/volume")
    man.start()
    images = scratch / "images"
    dump_is_refused(man, images, ("/volume", "--external"), owner=False)
    dump(man, images, "--external", "mnt[/volume]:volume")
    restore_is_refused(man, images, ("/volume", "--external"), owner=False)
    man.root_pid = engine.Engine(engine.ours(), images).restore(*man.restore_arguments, "--external", f"mnt[volume]:{outside}")
    text = pathlib.Path(f"/proc/{man.root_pid}/root/volume/file").read_text()
    expect(text == "from outside", f"the volume holds {text!r}")
    expect_pass(man)


def test_changed_file(scratch):
    """A file that tasks have open was replaced by one of another size: refused, with both sizes."""
    man = start(workload("open_file_offset_and_flags"), scratch / "victim")
    images = scratch / "images"
    dump(man, images)
    file = man.directory / "plain"
    good = file.read_bytes()
    file.write_bytes(good + b"more")
    restore_is_refused(man, images, ("plain", str(len(good)), str(len(good) + 4)), owner=False)
    file.write_bytes(good)
    restore_and_pass(man, images)


if __name__ == "__main__":
    sys.exit(harness.main(globals()))
