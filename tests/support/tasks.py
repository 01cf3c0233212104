"""What /proc shows of a tree of tasks, in a form that can be compared: before and after a dump that
leaves the victim running, and across a restore."""
import os
import re
import time


def read(path):
    """The file's bytes, or None where the task does not have it or is gone."""
    try:
        with open(path, "rb") as file:
            return file.read()
    except OSError:
        return None


def _link(path):
    try:
        return os.readlink(path)
    except OSError:
        return None


def _numbers_in(folder):
    try:
        return sorted(os.listdir(folder), key=int)
    except OSError:
        return []


def status(pid):
    text = read(f"/proc/{pid}/status") or b""
    return dict(line.split(":\t", 1) for line in text.decode(errors="replace").splitlines() if ":\t" in line)


def is_alive(pid):
    return status(pid).get("State", "X")[0] not in "XZ"


def identities(root):
    """identity() of each task of the tree."""
    return [identity(pid) for pid in tree(root)]


def identity(pid):
    """(pid, start time): pids alone may soon belong to somebody else."""
    return pid, _start_time(pid)


def _start_time(pid):
    stat = (read(f"/proc/{pid}/stat") or b"").decode(errors="replace").rpartition(")")[2].split()
    return stat[19] if stat else None


def remaining(identities_):
    """Those that still exist, as zombies too."""
    return [pid for pid, start in identities_ if start and _start_time(pid) == start]


def inner_pid(pid):
    """Its pid as it sees itself."""
    return int(status(pid)["NSpid"].split()[-1])


def tree(root):
    """Host pids of the task and all its descendants, parents first."""
    found = [root]
    for pid in found:
        for thread in _numbers_in(f"/proc/{pid}/task"):
            children = read(f"/proc/{pid}/task/{thread}/children") or b""
            found += [int(child) for child in children.split()]
    return found


# Soft-dirty is no state of the task, nor is whether the kernel counts the mapping as committed
# memory (ac): a restore may have had to write to a mapping that is read-only now.
flags_of_no_interest = {"sd", "ac"}


def private_kilobytes(pid):
    """How much memory it has that nobody else maps."""
    lines = (read(f"/proc/{pid}/smaps_rollup") or b"").decode().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_"))


def runs_32_bit_code(pid):
    """Whether its program is one (ELFCLASS32)."""
    try:
        with open(f"/proc/{pid}/exe", "rb") as program:
            return program.read(5) == b"\x7fELF\x01"
    except OSError:
        return False


def mappings(pid):
    """(from, to, what) of each mapping; neighbours that differ in nothing count as one. The kernel's [vsyscall] page is in
    every process that was started by a 64-bit program without executing another one; 32-bit code cannot see it."""
    out = []
    text = (read(f"/proc/{pid}/smaps") or b"").decode(errors="replace")
    for line in text.splitlines():
        head = re.match(r"([0-9a-f]+)-([0-9a-f]+) (\S+) (\S+) (\S+) (\d+) *(.*)", line)
        if head:
            start, end, perms, offset, device, inode, path = head.groups()
            offset = int(offset, 16)
            # Objects without a name of their own are made anew by a restore.
            if inode != "0" and (path.endswith("(deleted)") or path.startswith(("/dev/zero", "/memfd:", "/SYSV"))):
                inode, device = "new", "new"
            # The kernel's name for anonymous memory that is shared; one way to restore it is a memfd.
            path = path.removeprefix("/memfd:") if path.startswith("/memfd:/dev/zero") else path
            out.append([int(start, 16), int(end, 16), perms, offset if inode != "0" else None, device, inode, path, ""])
        elif line.startswith("VmFlags:"):
            flags = [flag for flag in line.split()[1:] if flag not in flags_of_no_interest]
            out[-1][7] = " ".join(flags)
    if runs_32_bit_code(pid):
        out = [mapping for mapping in out if mapping[6] != "[vsyscall]"]
    merged = []
    for mapping in out:
        last = merged[-1] if merged else None
        if (last and last[1] == mapping[0] and last[2] == mapping[2] and last[4:] == mapping[4:]
                and (last[3] is None or last[3] + last[1] - last[0] == mapping[3])):
            last[1] = mapping[1]
        else:
            merged.append(mapping)
    return [f"{m[0]:x}-{m[1]:x} {m[2]} {'-' if m[3] is None else hex(m[3])} {m[4]} {m[5]} {m[6]} [{m[7]}]" for m in merged]


class _Numbers:
    """Gives objects that have only an inode number ("pipe:[4711]") a number by first appearance, so
    that the pattern of sharing is compared and not the number."""

    def __init__(self):
        self.seen = {}

    def name(self, text):
        found = re.fullmatch(r"(pipe|socket|cgroup|ipc|mnt|net|pid|time|user|uts):\[(\d+)\]", text)
        if not found:
            return text
        index = self.seen.setdefault(text, len(self.seen))
        return f"{found.group(1)} #{index}"


def _lock_with_inner_pid(line):
    """A line "lock:  1: POSIX  ADVISORY  WRITE PID …" names who set it as we see it."""
    words = line.split()
    if words[0] == "lock:" and int(words[5]) > 0 and is_alive(words[5]):
        words[5] = str(inner_pid(words[5]))
    return " ".join(words)


def descriptors(pid, numbers):
    out = {}
    for fd in _numbers_in(f"/proc/{pid}/fd"):
        target = _link(f"/proc/{pid}/fd/{fd}")
        if target is None:
            continue
        info = (read(f"/proc/{pid}/fdinfo/{fd}") or b"").decode(errors="replace")
        facts = [_lock_with_inner_pid(line) for line in info.splitlines() if line.split(":")[0] in ("pos", "flags", "lock")]
        out[fd] = " ".join([numbers.name(target)] + facts)
    return out


_NAMESPACES = ("cgroup", "ipc", "mnt", "net", "pid", "pid_for_children", "time", "time_for_children", "user", "uts")
_STATUS = ("Name Umask NStgid NSpid NSpgid NSsid Uid Gid Groups Threads SigBlk SigIgn SigCgt CapInh CapPrm CapEff "
           "CapBnd CapAmb NoNewPrivs Seccomp Seccomp_filters THP_enabled").split()
# Fields of stat by proc(5)'s numbers.
_STAT = {"tty_nr": 7, "priority": 18, "nice": 19, "start_code": 26, "end_code": 27, "start_stack": 28, "exit_signal": 38,
         "rt_priority": 40, "policy": 41, "start_data": 45, "end_data": 46, "start_brk": 47, "arg_start": 48, "arg_end": 49,
         "env_start": 50, "env_end": 51}


def _thread_facts(pid, tid):
    facts = {}
    base = f"/proc/{pid}/task/{tid}"
    shown = status(f"{pid}/task/{tid}")
    for key in _STATUS:
        value = shown.get(key, "").strip()
        # In a namespace of its own a task has a pid here and one there; only the latter is kept.
        facts[key] = value.split()[-1] if key.startswith("NS") and value else value
    # A signal that is being waited for counts as not blocked, and the go signal always is.
    facts["SigBlk"] = f"{int(facts['SigBlk'], 16) | 1 << 11:016x}" if facts["SigBlk"] else ""
    # R, S and D are moments; T and Z are states.
    facts["State"] = {"T": "stopped", "Z": "zombie"}.get(shown.get("State", "X")[0], "alive")
    stat = (read(f"{base}/stat") or b"").decode(errors="replace").rpartition(")")[2].split()
    for name, number in _STAT.items():
        facts[name] = stat[number - 3] if stat else None
    facts["personality"] = (read(f"{base}/personality") or b"").decode().strip()
    return facts


def groups(pid):
    """{hierarchy: path} of the cgroups that it is in. All tasks are in the root of a hierarchy that somebody mounts
    meanwhile: that says nothing."""
    lines = (line.split(":", 2)[1:] for line in (read(f"/proc/{pid}/cgroup") or b"").decode().splitlines())
    return {hierarchy: path for hierarchy, path in lines if path != "/"}


def snapshot(root, at_rest=False):
    """{"pid/what": value} for every task under `root`. With at_rest, also what only a task that was
    left alone keeps: the system call it waits in, its cgroups, its namespaces."""
    out = {}
    numbers = _Numbers()
    for pid in tree(root):
        shown = status(pid)
        if "NSpid" not in shown:
            continue
        name = shown["NSpid"].split()[-1]
        base = f"/proc/{pid}"
        if shown["State"][0] == "Z":
            out[f"{name}/State"] = "zombie"
            continue
        for tid in _numbers_in(f"{base}/task"):
            inner = status(f"{pid}/task/{tid}").get("NSpid", "?").split()[-1]
            for key, value in _thread_facts(pid, tid).items():
                out[f"{name}/{inner}/{key}"] = value
            if at_rest:
                out[f"{name}/{inner}/syscall"] = (read(f"{base}/task/{tid}/syscall") or b"").decode()
        if pid != root:
            parent = shown["PPid"]
            out[f"{name}/parent"] = status(parent).get("NSpid", "?").split()[-1]
        for link in ("exe", "cwd", "root"):
            out[f"{name}/{link}"] = _link(f"{base}/{link}")
        for file in ("cmdline", "environ", "auxv", "limits", "oom_score_adj", "coredump_filter", "timerslack_ns"):
            out[f"{name}/{file}"] = read(f"{base}/{file}")
        timers = (read(f"{base}/timers") or b"").decode()
        out[f"{name}/timers"] = re.sub(r"pid\.\d+|tid\.\d+", "", timers)
        for index, line in enumerate(mappings(pid)):
            out[f"{name}/mapping {index}"] = line
        for fd, what in descriptors(pid, numbers).items():
            out[f"{name}/fd {fd}"] = what
        if at_rest:
            out[f"{name}/cgroup"] = groups(pid)
            out[f"{name}/tracer"] = shown["TracerPid"]
            for kind in _NAMESPACES:
                out[f"{name}/ns {kind}"] = _link(f"{base}/ns/{kind}")
    return out


def _is_restart(words):
    """restart_syscall: on x86-64, and of 32-bit code, whose stack is below 4 GiB (read() of 64-bit code is 0 as well)."""
    return words[:1] == ["219"] or words[:1] == ["0"] and len(words) == 9 and int(words[7], 16) < 1 << 32


def _same_wait(old, new):
    """Two looks at /proc/…/syscall: a task caught on its way says nothing, and a wait with a timeout that any stop
    has interrupted goes on as restart_syscall, with the same arguments: the kernel's own way."""
    if "running" in (old.strip(), new.strip()):
        return True
    restarted = _is_restart(new.split()) or _is_restart(old.split())
    return restarted and old.split()[1:] == new.split()[1:]


def stable_snapshot(root, at_rest=False, seconds=2):
    """A snapshot that did not change for a moment: a thread that was just started may still be on its way."""
    deadline = time.monotonic() + seconds
    now = snapshot(root, at_rest)
    while time.monotonic() < deadline:
        time.sleep(0.01)
        last, now = now, snapshot(root, at_rest)
        if not differences(last, now):
            break
    return now


def differences(before, after):
    """Lines that say what differs; empty if nothing does."""
    lines = []
    for key in sorted(set(before) | set(after)):
        old, new = before.get(key, "(absent)"), after.get(key, "(absent)")
        if old != new and not (key.endswith("/syscall") and _same_wait(old, new)):
            lines.append(f"{key}: {old!r} -> {new!r}")
    return lines


def lasting_differences(before, root, at_rest=False, seconds=2):
    """As differences() to a fresh snapshot; what differs must go on to do so, since a task on its way
    back into the system call that it waits in may look otherwise for a moment."""
    deadline = time.monotonic() + seconds
    while True:
        lines = differences(before, snapshot(root, at_rest))
        if not lines or time.monotonic() > deadline or not is_alive(root):
            return lines
        time.sleep(0.01)
