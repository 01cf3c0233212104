#!/usr/bin/env python3
"""Busybox containers under runc, with the engine under test as its `criu`:

  containers.py --scratch DIRECTORY TEST      one of the functions below, without "test_"."""
import os
import pathlib
import shutil
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import harness, tasks, victim  # noqa: E402
from support.container import COUNTER, Census, ConsoleSocket, Container, missing_tools  # noqa: E402
from support.harness import expect, expect_equal  # noqa: E402


def checkpoint_and_wait(container, images, *options):
    dumped = tasks.identities(container.pid())
    container.checkpoint(images, *options)
    victim.wait_until_gone(dumped)
    expect(container.state() is None, f"after the checkpoint runc still knows the container: {container.state()}")


def test_default_container(scratch):
    """runc's default configuration: everything about the container is the same after a restore."""
    container = Container(scratch / "c", ["sh", "-c", COUNTER])
    container.start().wait_for_count(5)
    facts = container.facts()
    checkpoint_and_wait(container, scratch / "images")
    container.restore(scratch / "images")
    expect_equal(facts, container.facts(), "after the restore")
    after = container.count()
    container.wait_for_count(after + 5)


def test_twenty_rounds(scratch):
    """Twenty times there and back: nothing is lost in the container, nothing piles up on the node."""
    container = Container(scratch / "c", ["sh", "-c", COUNTER])
    container.start().wait_for_count(3)
    # The first checkpoint may leave the kernel with something it keeps, like a loaded module's proc file.
    running = None
    for number in range(20):
        images = scratch / f"images-{number % 2}"
        shutil.rmtree(images, ignore_errors=True)
        last = container.count()
        checkpoint_and_wait(container, images)
        container.restore(images)
        now = container.wait_for_count(last + 2)
        expect(now < last + 2000, f"round {number}: counted from {last} to {now}")
        census = Census.settle(running) if running else Census.take()
        running = running or census
        expect_equal(running, census, f"on the node, after round {number}")


def test_leave_running(scratch):
    """checkpoint --leave-running: the container goes on unharmed; its image, taken three times, restores."""
    container = Container(scratch / "c", ["sh", "-c", COUNTER])
    pid = container.start().pid()
    container.wait_for_count(3)
    census, facts = Census.take(), container.facts()
    for number in range(3):
        before = container.count()
        container.checkpoint(scratch / f"images-{number}", "--leave-running")
        expect(container.pid() == pid, "the container is another one now")
        container.wait_for_count(before + 5)
        expect_equal(facts, container.facts(), "after a checkpoint with --leave-running")
        expect_equal(census, Census.settle(census), "on the node")
    container.delete()
    container.restore(scratch / "images-1")
    container.wait_for_count(container.count() + 3)


def test_paused_before(scratch):
    """A container that is paused when it is checkpointed with --leave-running is still paused afterwards."""
    container = Container(scratch / "c", ["sh", "-c", COUNTER])
    container.start().wait_for_count(3)
    container.command("pause", container.id)
    container.checkpoint(scratch / "images", "--leave-running")
    expect(container.state()["status"] == "paused", f"it is {container.state()['status']}")
    container.command("resume", container.id)
    container.wait_for_count(container.count() + 3)


def shell_on_a_terminal(scratch, arguments):
    """A shell that a checkpoint takes from one terminal to another, with what it knows and does."""
    container = Container(scratch / "c", arguments, terminal=True)
    first = ConsoleSocket(scratch / "c/first.sock")
    container.start(console=first)
    first.accept()
    first.write("remembered=4711; stty rows 33 cols 99; sleep 1000 & echo set-$((1+1))\n")
    first.expect("set-2")
    dumped = tasks.identities(container.pid())
    container.checkpoint(scratch / "images")
    victim.wait_until_gone(dumped)
    first.close()
    second = ConsoleSocket(scratch / "c/second.sock")
    container.restore(scratch / "images", console=second)
    second.accept()
    second.write("echo it-is-$remembered; stty size\n")
    second.expect("it-is-4711")
    second.expect("33 99")
    return container, second


def test_terminal(scratch):
    """A container with a terminal: after the restore the new terminal leads to the same shell."""
    container, terminal = shell_on_a_terminal(scratch, ["sh", "-c", 'while read -r line; do eval "$line"; done'])
    terminal.write("exit 0\n")
    victim.wait_until(lambda: container.pid() is None, "the shell exits")
    terminal.close()


def test_interactive_shell(scratch):
    """runc's own default, an interactive shell: its jobs, its terminal and its keys still work."""
    container, terminal = shell_on_a_terminal(scratch, ["sh"])
    terminal.write("jobs\n")
    terminal.expect("sleep 1000")
    terminal.write("sleep 1001\n")
    victim.wait_until(lambda: foreground_is(container, "sleep"), "the shell runs a command in the foreground")
    terminal.write("\x03")
    victim.wait_until(lambda: not foreground_is(container, "sleep"), "the key interrupts the command")
    terminal.write("echo interrupted-$?\n")
    terminal.expect("interrupted-130")
    terminal.write("exit 0\n")
    victim.wait_until(lambda: container.pid() is None, "the shell exits")
    terminal.close()


def foreground_is(container, comm):
    """Whether the foreground group of the init process's terminal is led by `comm`."""
    group = int(pathlib.Path(f"/proc/{container.pid()}/stat").read_text().rpartition(")")[2].split()[5])
    return group > 0 and pathlib.Path(f"/proc/{group}/comm").read_text().strip() == comm


def test_stdio_pipes(scratch):
    """A container whose stdout is a pipe of its starter: after the restore it is the restorer's."""
    script = "while :; do count=$((count + 1)); echo $count; sleep 0.02; done"
    container = Container(scratch / "c", ["sh", "-c", script])

    def read_numbers(pipe, how_many):
        text = b""
        while text.count(b"\n") < how_many:
            text += os.read(pipe, 4096)
        return [int(line) for line in text.split(b"\n")[:how_many]]

    reader, writer = os.pipe()
    container.start(stdout=writer)
    os.close(writer)
    expect(read_numbers(reader, 5) == [1, 2, 3, 4, 5], "it does not count")
    checkpoint_and_wait(container, scratch / "images")
    written = b""
    while chunk := os.read(reader, 4096):  # ends: nobody holds the other end any more
        written += chunk
    last = int(written.split()[-1]) if written.split() else 5
    os.close(reader)
    reader, writer = os.pipe()
    container.restore(scratch / "images", stdout=writer)
    os.close(writer)
    first = read_numbers(reader, 3)[0]
    os.close(reader)
    expect(first == last + 1, f"it counted to {last} before and from {first} after")


def test_limits(scratch):
    """The container's cgroups come back with their limits, whatever the engine that asks sets itself."""
    def limit(config):
        config["linux"]["resources"].update({"memory": {"limit": 100 << 20}, "pids": {"limit": 77}, "cpu": {"shares": 512}})
    container = Container(scratch / "c", ["sh", "-c", COUNTER], change=limit)
    container.start().wait_for_count(3)
    facts = container.facts()
    expect(any(text.strip() == "77" for key, text in facts.items() if key.endswith("pids.max")), "the limit of 77 tasks is not to be seen")
    checkpoint_and_wait(container, scratch / "images", "--manage-cgroups-mode", "full")
    container.restore(scratch / "images", "--manage-cgroups-mode", "full")
    expect_equal(facts, container.facts(), "after the restore")


# Keeps some 64 MiB of its own, and counts.
HOARDER = """
BEGIN { hoard = "x"; for (i = 0; i < 26; i++) hoard = hoard hoard
        for (n = 1; length(hoard) > 0; n++) {
          sum += n; print n, sum >"/dev/shm/new"; close("/dev/shm/new"); system("mv /dev/shm/new /dev/shm/state; sleep 0.02") } }
"""


def test_images_count_as_the_engines(scratch):
    """Images on tmpfs are memory, but not the container's: its limit leaves no room for them."""
    def limit(config):
        config["linux"]["resources"].update({"memory": {"limit": 160 << 20, "swap": 160 << 20}})
    container = Container(scratch / "c", ["awk", HOARDER], change=limit)
    container.start().wait_for_count(2)
    images = scratch / "images"
    images.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1g", "images", images], check=True)
    try:
        for number in range(3):
            container.checkpoint(images / str(number), "--leave-running")
            container.wait_for_count(container.count() + 2)
        container.checkpoint(images / "last")
        expect(sum(file.stat().st_size for file in images.glob("*/pages-*.img")) > 4 * 64 << 20, "the images are smaller than the memory")
        container.restore(images / "last")
        container.wait_for_count(container.count() + 2)
    finally:
        container.delete()
        subprocess.run(["umount", images], check=True)


def test_decoded_by_crit(scratch):
    """Debian's crit reads every image file of a container."""
    if not shutil.which("crit"):
        return "crit is not installed"
    container = Container(scratch / "c", ["sh", "-c", COUNTER])
    container.start().wait_for_count(3)
    images = scratch / "images"
    checkpoint_and_wait(container, images)
    files = [file for file in images.glob("*.img") if not file.name.startswith("pages-") and not file.name.endswith(".tar.gz.img")]
    expect(len(files) > 10, f"only {len(files)} image files")
    for file in sorted(files) + [images / "stats-dump"]:
        result = subprocess.run(["crit", "decode", "-i", file], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, timeout=60)
        expect(result.returncode == 0, f"crit cannot decode {file.name}: {result.stdout.decode()[-500:]}")


def test_exec_and_stop_after_restore(scratch):
    """runc sees a restored container as one of its own: exec, kill and delete work, the exit is noticed."""
    container = Container(scratch / "c", ["sh", "-c", COUNTER])
    container.start().wait_for_count(3)
    checkpoint_and_wait(container, scratch / "images")
    container.restore(scratch / "images")
    said = container.command("exec", container.id, "sh", "-c", "cat /proc/1/comm; hostname")
    expect(said.split() == ["sh", "runc"], f"exec says {said!r}")
    container.command("kill", container.id, "KILL")
    victim.wait_until(lambda: (victim.reap(), container.state())[1]["status"] == "stopped", "runc sees that it stopped")
    container.command("delete", container.id)
    expect(container.state() is None, "it is still there")


def leaving_nothing_behind(test, scratch):
    before = Census.take()
    skipped = test(scratch)
    delete_all()
    expect_equal(before, Census.settle(before), "on the node, when all is over")
    return skipped


def delete_all():
    for container in Container.made:
        container.delete()


if __name__ == "__main__":
    sys.exit(harness.main(globals(), delete_all, missing_tools, leaving_nothing_behind))
