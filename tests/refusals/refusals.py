#!/usr/bin/env python3
"""What cannot be done is refused in one line that says which object, whose, why, and what to do; and the
victim of a refused dump is as it was, and a refused restore leaves nothing behind:

  refusals.py --scratch DIRECTORY TEST      one of the functions below, without "test_"."""
import ctypes
import fcntl
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time

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


def _unsupported(scratch, name, *mentioned, flavour="host", arguments=()):
    man = start(refused(name), scratch / "victim", flavour)
    if man.verdict():
        return man.verdict()
    dump_is_refused(man, scratch / "images", *mentioned, arguments=arguments)
    expect_pass(man)


def test_landlock(scratch):
    """Refused, and saved where its user gives the restrictions up."""
    man = start(refused("landlock"), scratch / "victim")
    if man.verdict():
        return man.verdict()
    images = scratch / "images"
    dump_is_refused(man, images, ("Landlock", "thread ", "--drop-landlock"))
    dump(man, images, "--drop-landlock")
    log = (images / "dump.log").read_text()
    expect("Landlock" in log and "given up" in log, "the log does not say what was given up")
    return restore_and_pass(man, images)


def test_landlock_of_a_thread(scratch):
    return _unsupported(scratch, "landlock_of_a_thread", ("Landlock", "thread "))


def test_call_dispatch(scratch):
    return _unsupported(scratch, "call_dispatch", ("system calls of thread ", "PR_SET_SYSCALL_USER_DISPATCH"))


def test_thread_with_own_descriptors(scratch):
    return _unsupported(scratch, "thread_with_own_descriptors", ("descriptors of thread ", "does not share them"))


def test_thread_with_own_namespace(scratch):
    return _unsupported(scratch, "thread_with_own_namespace", ("uts namespaces of thread ", "does not share them"))


def test_thread_with_own_cgroup_namespace(scratch):
    return _unsupported(scratch, "thread_with_own_cgroup_namespace", ("another cgroup namespace", "let it share"))


def test_no_room(scratch):
    return _unsupported(scratch, "no_room", ("room for ", "bytes", "RLIMIT_AS"))


def test_no_room_in_a_family(scratch):
    return _unsupported(scratch, "no_room_in_a_family", ("room for ", "bytes", "RLIMIT_AS"))


def test_timer_of_a_thread(scratch):
    return _unsupported(scratch, "timer_of_a_thread", ("CPU time of one thread", "timer 0"))


def test_code32_in_64(scratch):
    """Which no image could say: the same registers stand for a program of 32-bit code."""
    return _unsupported(scratch, "code32_in_64", ("a program of 64-bit code is running 32-bit code",))


def test_own_segments(scratch):
    return _unsupported(scratch, "own_segments", ("segments", "modify_ldt"))


def test_code32_without_kernel(scratch):
    """The images are of 32-bit code, and the kernel runs none."""
    program = workload("sigactions_kept_32")
    if not program.exists():
        return "no compiler here for 32-bit programs"
    man = start(program, scratch / "victim")
    images = scratch / "images"
    dump(man, images)
    restore_is_refused(man, images, ("32-bit code", "CONFIG_IA32_EMULATION"),
                       arguments=[*man.restore_arguments, "--without=compat_cr"])
    restore_and_pass(man, images)


def test_fanotify_that_decides(scratch):
    return _unsupported(scratch, "fanotify_that_decides", ("fanotify", "descriptor 3", "decides who may open"))


def test_fanotify_of_a_file_system(scratch):
    return _unsupported(scratch, "fanotify_of_a_file_system", ("fanotify", "descriptor 3", "marks more than inodes and mounts"))


def test_io_uring(scratch):
    return _unsupported(scratch, "io_uring", ("io_uring", "descriptor 3"))


def test_bpf_program(scratch):
    return _unsupported(scratch, "bpf_program", ("bpf", "descriptor 3"))


def test_userfaultfd(scratch):
    return _unsupported(scratch, "userfaultfd", ("userfaultfd", "descriptor 3"))


def test_memory_of_a_userfaultfd(scratch):
    return _unsupported(scratch, "memory_of_a_userfaultfd", ("mapping", "handled through a userfaultfd"), "descriptor 3")


def test_secret_memory(scratch):
    return _unsupported(scratch, "secret_memory", ("mapping", "secret memory"), ("descriptor 3", "secret memory"))


def test_uprobe(scratch):
    """A process that a uprobe has been in is refused, unless that is allowed, on both sides."""
    man = start(refused("uprobe"), scratch / "victim")
    if man.verdict():
        return man.verdict()
    images = scratch / "images"
    dump_is_refused(man, images, ("mapping", "[uprobes]", "uprobe", "--allow-uprobes"))
    dump(man, images, "--allow-uprobes")
    restore_is_refused(man, images, ("inventory.img", "--allow-uprobes"), owner=False)
    return restore_and_pass(man, images, "--allow-uprobes")


def test_keys_of_a_process(scratch):
    return _unsupported(scratch, "keys_of_a_process", ("keyring of the process", "holds keys"), ("keyring of a thread", "holds keys"))


def test_pidfd_of_an_outsider(scratch):
    return _unsupported(scratch, "pidfd_of_outsider", ("descriptor 3", f"is of process {os.getpid()}, which is not among the tasks"))


def test_proc_file_of_an_outsider(scratch):
    return _unsupported(scratch, "proc_file_of_outsider", ("descriptor 3", f"is of process {os.getpid()}, which is not among the tasks"))


def test_proc_file_of_a_thread_that_is_gone(scratch):
    return _unsupported(scratch, "proc_file_of_thread", ("descriptor 3", "does not have any more"))


def test_namespace_of_nobody(scratch):
    return _unsupported(scratch, "namespace_of_nobody", ("descriptor 3", "uts namespace that none of the tasks lives in"))


def test_lock_without_file_locks(scratch):
    return _unsupported(scratch, "locked_file", ("descriptor 3", "lock on the file", "--file-locks"))


def test_leased_file_in_tmpfs(scratch):
    return _unsupported(scratch, "leased_file_in_tmpfs", ("leased", "has a lease on it"), flavour="namespaces",
                        arguments=["--file-locks"])


def test_lock_that_is_taken(scratch):
    """Somebody else locks the file before the restore: it is named, nothing is left, and later it works."""
    man = start(refused("locked_file"), scratch / "victim")
    images = scratch / "images"
    dump(man, images, "--file-locks")
    with open(man.directory / "data", "rb") as file:
        fcntl.flock(file, fcntl.LOCK_SH)
        restore_is_refused(man, images, (str(man.directory / "data"), "somebody else"), arguments=[*man.restore_arguments, "--file-locks"])
    restore_and_pass(man, images, "--file-locks")


def test_socket_to_outside(scratch):
    return _unsupported(scratch, "socket_to_outside", ("descriptor 3", "belongs to nobody among the tasks", "--external unix["))


def test_full_terminal(scratch):
    """Found out only when the tasks serve already."""
    return _unsupported(scratch, "full_terminal", ("slave of terminal", "more waits to be read", "let its reader catch up"))


def test_terminal_of_an_outsider(scratch):
    return _unsupported(scratch, "terminal_of_an_outsider", ("descriptor 4", "other end is outside", "--shell-job"))


def test_connection_not_accepted_with_data(scratch):
    return _unsupported(scratch, "connection_not_accepted", ("not accepted yet", "let the listener accept"))


def test_system_v_memory_of_the_node(scratch):
    return _unsupported(scratch, "system_v_memory", ("System V shared memory", "ipc namespace"))


def test_inherited_aio_ring(scratch):
    return _unsupported(scratch, "inherited_aio_ring", ("aio ring", "what is left of another's"))


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


def test_number_of_a_group(scratch):
    """Not refused: a number that a task must have is that of a group that somebody is still in, who ends meanwhile."""
    man = start(workload("forked_tree_with_pids"), scratch / "victim")
    images = scratch / "images"
    wanted = dump(man, images)[-1]
    member = int(subprocess.run([refused("take_pid"), str(wanted), "group"], stdout=subprocess.PIPE, check=True, text=True).stdout)
    expect(tasks.status(wanted) == {}, "the leader is still there")
    restore_is_refused(man, images, f"pid {wanted} is taken", owner=False)

    def end():
        os.kill(member, signal.SIGKILL)
        os.waitpid(member, 0)
    timer = threading.Timer(0.5, end)
    timer.start()
    restore_and_pass(man, images)
    timer.join()


def _disk_full(scratch, name):
    """The log of the dump that had room."""
    man = start(workload(name), scratch / "victim")
    images = scratch / "images"
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=2m", "images", images], check=True)
    dump_is_refused(man, images, "ENOSPC", owner=False)
    subprocess.run(["mount", "-o", "remount,size=64m", images], check=True)
    dump(man, images)
    log = (images / "dump.log").read_text()
    restore_and_pass(man, images)
    subprocess.run(["umount", images], check=True)
    return log


def test_disk_full(scratch):
    """The images do not fit: the victim goes on, and once there is room the same dump works."""
    _disk_full(scratch, "anonymous_memory_pattern")


COPIED_EARLY = re.compile(r"[1-9][0-9]* of [0-9]+ chunks of pages were copied while its mappings were read")


def test_disk_full_early(scratch):
    """The same where pages are copied while the mappings are still being read."""
    log = _disk_full(scratch, "many_mappings")
    finds_pages = tuple(map(int, os.uname().release.split(".")[:2])) >= (6, 7)  # PAGEMAP_SCAN
    expect(COPIED_EARLY.search(log) or not finds_pages, f"nothing was copied early: {log}")


def test_secret_among_many_mappings(scratch):
    """Pages were copied already when the dump is refused: they are discarded (dump_is_refused())."""
    return _unsupported(scratch, "secret_among_many_mappings", ("mapping", "secret memory"), ("descriptor 3", "secret memory"))


def test_disk_full_of_common_pages(scratch):
    """The same with the pages that a family shares, of which there is one copy and several files: they stay shared."""
    man = start(workload("cow_large"), scratch / "victim")
    images = scratch / "images"
    images.mkdir()
    family = tasks.tree(man.root_pid)
    alone = {pid: tasks.private_kilobytes(pid) for pid in family}
    for size in ("3m", "24m", "60m"):
        subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={size}", "images", images], check=True)
        dump_is_refused(man, images, ("pages-", "ENOSPC"))
        subprocess.run(["umount", images], check=True)
        for pid in family:
            now = tasks.private_kilobytes(pid)
            expect(now < alone[pid] + 1024, f"with {size}: {now} kB are its own, {alone[pid]} were")
    dump(man, images)
    restore_and_pass(man, images)


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


def test_damaged_pages_of_children(scratch):
    """Children are restored at the same time: the page file of each in turn is damaged where it differs from its
    parent's, the restore names it, and nobody is left behind."""
    man = start(workload("forked_tree_with_pids"), scratch / "victim")
    images = scratch / "images"
    dump(man, images)
    files = sorted(images.glob("pages-*.img"))
    expect(len(files) > 3, f"only {len(files)} page files")
    for file in files:
        good = file.read_bytes()
        # The stack is at the end, and never the same in two processes.
        file.write_bytes(good[:-5000] + bytes([good[-5000] ^ 1]) + good[-4999:])
        restore_is_refused(man, images, file.name, owner=False)
        file.write_bytes(good)
    restore_and_pass(man, images)


def test_zombies_of_the_checkpoint(scratch):
    """Not refused: the tasks that a checkpoint has ended are collected only while they are restored. One that is never
    collected is named."""
    man = start(workload("forked_tree_with_pids"), scratch / "victim")
    images = scratch / "images"
    dumped = tasks.identities(man.root_pid)
    engine.Engine(engine.ours(), images).dump(man.root_pid, *man.dump_arguments)
    restore_is_refused_while_taken(man, images)
    collector = threading.Timer(0.5, lambda: [os.waitpid(pid, 0) for pid, _ in dumped])
    collector.start()
    restore_and_pass(man, images)
    collector.join()


def restore_is_refused_while_taken(man, images):
    begun = time.monotonic()
    try:
        engine.Engine(engine.ours(), images).restore(*man.restore_arguments)
    except engine.Failed as failure:
        check_lines(failure, f"pid {man.root_pid} is taken", owner=False)
    else:
        raise Wrong("the restore succeeded")
    expect(time.monotonic() - begun < 10, "it took too long to say that a number is taken")


def test_zombies_of_another_engine(scratch):
    """Not refused: the reference writes thread ids of zombies that it never set."""
    man = start(workload("zombie_child_with_exit_code"), scratch / "victim")
    images = scratch / "images"
    dump(man, images)
    (images / "dormouse.json").unlink()  # an image of another engine has none
    tree = (images / "pstree.img").read_bytes()
    records, at = [tree[:8]], 8
    while at < len(tree):
        end = at + 4 + int.from_bytes(tree[at:at + 4], "little")
        record = tree[at + 4:end]
        if len(records) > 1:  # all but the root are zombies
            kept = record[:record.rindex(b"\x28")]  # the last field is threads
            record = kept + b"\x28\xe0\xef\xda\xba\x08"
        records.append(len(record).to_bytes(4, "little") + record)
        at = end
    expect(len(records) > 2, "no zombie in the image")
    (images / "pstree.img").write_bytes(b"".join(records))
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


def with_other_cpu(record):
    """cpuinfo.img as a CPU would have it whose extended registers take one byte: in its one entry, a field that
    stands there twice counts with its last value."""
    def number(value):
        return bytes([value & 0x7f | 0x80]) + number(value >> 7) if value > 0x7f else bytes([value])
    magics, message = record[:8], record[12:]
    at, size = 1, 0
    while True:
        size |= (message[at] & 0x7f) << 7 * (at - 1)
        at += 1
        if message[at - 1] < 0x80:
            break
    expect(message[0] == 0x0a and at + size == len(message), "cpuinfo.img is not one entry")
    entry = message[at:] + bytes([9 << 3, 1])
    message = b"\x0a" + number(len(entry)) + entry
    return magics + len(message).to_bytes(4, "little") + message


def test_other_cpu(scratch):
    """The CPU was recorded, and is another one here: refused, unless that is not to be checked."""
    man = start(workload("registers_general"), scratch / "victim")
    images = scratch / "images"
    dump(man, images, "--cpu-cap=all")
    record = images / "cpuinfo.img"
    (images / "dormouse.json").unlink()
    good = record.read_bytes()
    record.unlink()
    restore_is_refused(man, images, ("cpuinfo.img", "--cpu-cap"), arguments=[*man.restore_arguments, "--cpu-cap=fpu"],
                       owner=False)
    record.write_bytes(with_other_cpu(good))
    restore_is_refused(man, images, ("CPU", "extended registers", "--cpu-cap"),
                       arguments=[*man.restore_arguments, "--cpu-cap=fpu"], owner=False)
    restore_and_pass(man, images, "--cpu-cap=^fpu")


def pre_dump(man, images, *arguments):
    engine.Engine(engine.ours(), images).run("pre-dump", "-t", str(man.root_pid), *man.dump_arguments, *arguments)


def wardens_of(pid):
    """Processes that keep this task's tracking alive."""
    found = []
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (process / "comm").read_text() != "dormouse-track\n":
                continue
            for fd in (process / "fdinfo").iterdir():
                if f"Pid:\t{pid}\n" in fd.read_text():
                    found.append(int(process.name))
        except OSError:
            pass
    return found


def pages_in(images):
    return sum(file.stat().st_size for file in images.glob("pages-*.img")) // 4096


def test_tracking_ends(scratch):
    """A dump that does not ask for tracking leaves nothing of an earlier pre-dump's, in the task or beside it."""
    man = start(workload("anonymous_memory_pattern"), scratch / "victim")
    before = tasks.stable_snapshot(man.root_pid, at_rest=True)
    pre_dump(man, scratch / "1")
    expect(wardens_of(man.root_pid), "nobody keeps the tracking alive")
    # Soft-dirty bits, where the kernel has them ("sd"), leave no trace in the flags.
    has_bits = " sd" in pathlib.Path("/proc/self/smaps").read_text()
    expect(has_bits or "uw" in str(tasks.mappings(man.root_pid)), "nothing is tracked")
    dump_arguments = ["--leave-running"]
    engine.Engine(engine.ours(), scratch / "2").dump(man.root_pid, *dump_arguments, *man.dump_arguments)
    harness.expect_unchanged(before, man.root_pid, "after a dump with --leave-running")
    expect(not wardens_of(man.root_pid), "somebody still keeps tracking alive")
    expect_pass(man)


def test_pre_dump_leaves_pages_shared(scratch):
    """Reading a family's pages behind its back gives none of its processes a copy of its own."""
    man = start(workload("cow_large"), scratch / "victim")
    pre_dump(man, scratch / "1")
    expect_pass(man)


def test_tracking_is_cut_off(scratch):
    """The process that keeps tracking alive is killed: the next dump saves everything again, and is right."""
    man = start(workload("anonymous_memory_pattern"), scratch / "victim")
    pre_dump(man, scratch / "1")
    for warden in wardens_of(man.root_pid):
        os.kill(warden, 9)
    victim.wait_until(lambda: not wardens_of(man.root_pid), "the keeper of tracking is gone")
    dump(man, scratch / "2", "--track-mem", "--prev-images-dir", "../1")
    expect(pages_in(scratch / "2") >= pages_in(scratch / "1"), "pages were left to the parent without tracking")
    restore_and_pass(man, scratch / "2")


def test_parent_of_another_time(scratch):
    """A parent that is not the last one tracked: nothing is left to it."""
    man = start(workload("anonymous_memory_pattern"), scratch / "victim")
    pre_dump(man, scratch / "1")
    pre_dump(man, scratch / "2", "--prev-images-dir", "../1")
    expect(pages_in(scratch / "2") < 100, f"{pages_in(scratch / '2')} pages were saved again")
    dump(man, scratch / "3", "--track-mem", "--prev-images-dir", "../1")
    expect(pages_in(scratch / "3") >= pages_in(scratch / "1"), "pages were left to a parent that is too old")
    shutil.rmtree(scratch / "1")
    restore_and_pass(man, scratch / "3")


def chain(scratch):
    man = start(workload("anonymous_memory_pattern"), scratch / "victim")
    pre_dump(man, scratch / "1")
    pre_dump(man, scratch / "2", "--prev-images-dir", "../1")
    dump(man, scratch / "3", "--track-mem", "--prev-images-dir", "../2")
    return man, scratch / "3"


def test_wrong_parent(scratch):
    """The images a checkpoint builds on are missing, others, damaged, or not whole: each is named before anything is
    made, and with the right ones it restores."""
    man, images = chain(scratch)
    parent, oldest = scratch / "2", scratch / "1"
    restore_is_refused(man, parent, ("dormouse.json", "pre-dump"), owner=False)
    parent.rename(scratch / "away")
    restore_is_refused(man, images, ("parent", "ENOENT"), owner=False)
    shutil.copytree(oldest, parent, symlinks=True)
    restore_is_refused(man, images, ("parent", "generation"), owner=False)
    shutil.rmtree(parent)
    (scratch / "away").rename(parent)
    (parent / "parent").unlink()
    restore_is_refused(man, images, ("parent/parent", "missing"), owner=False)
    (parent / "parent").symlink_to("../3")
    restore_is_refused(man, images, ("parent/parent", "chain"), owner=False)
    (parent / "parent").unlink()
    (parent / "parent").symlink_to("../1")
    manifest = (oldest / "dormouse.json").read_bytes()
    (oldest / "dormouse.json").unlink()
    restore_is_refused(man, images, ("parent/parent", "dormouse.json"), owner=False)
    (oldest / "dormouse.json").write_bytes(manifest)
    pages = oldest / "pages-1.img"
    good = pages.read_bytes()
    pages.write_bytes(good[:len(good) // 2] + bytes([good[len(good) // 2] ^ 1]) + good[len(good) // 2 + 1:])
    restore_is_refused(man, images, ("parent/parent/pages-1.img", "checksum"), owner=False)
    pages.write_bytes(good)
    restore_and_pass(man, images)


def test_dropped_pages(scratch):
    """Pages that a later dump has too are dropped by dedup; the parent serves as such, and not alone. A restore with
    --auto-dedup uses the images up, and they say so."""
    man = start(workload("anonymous_memory_pattern"), scratch / "victim")
    first, second = scratch / "1", scratch / "2"
    engine.Engine(engine.ours(), first).dump(man.root_pid, "--leave-running", "--track-mem", *man.dump_arguments)
    dump(man, second, "--track-mem", "--prev-images-dir", "../1")
    engine.Engine(engine.ours(), second).run("dedup")
    restore_is_refused(man, first, ("dormouse.json", "later checkpoint"), owner=False)
    man.root_pid = engine.Engine(engine.ours(), second).restore("--auto-dedup", *man.restore_arguments)
    expect_pass(man)
    left = sum(file.stat().st_blocks for images in (first, second) for file in images.glob("pages-*.img"))
    expect(left == 0, f"{left} blocks are left of the page files")
    restore_is_refused(man, second, ("dormouse.json", "dropped"), owner=False)


def test_pre_dump_into_its_parent(scratch):
    man = start(workload("anonymous_memory_pattern"), scratch / "victim")
    pre_dump(man, scratch / "1")
    for path, words in ((".", "directory of its own"), ("../absent", "ENOENT")):
        try:
            pre_dump(man, scratch / "1", "--prev-images-dir", path)
        except engine.Failed as failure:
            check_lines(failure, ("parent images", words))
        else:
            raise Wrong("the pre-dump succeeded")
    expect_pass(man)


if __name__ == "__main__":
    sys.exit(harness.main(globals()))
