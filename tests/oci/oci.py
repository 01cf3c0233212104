#!/usr/bin/env python3
"""The program `dormouse` with busybox containers that runc started, without runc's own checkpoint code:

  oci.py --scratch DIRECTORY TEST             one of the functions below named test_…"""
import contextlib
import json
import os
import pathlib
import signal
import subprocess
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import engine, harness, tasks, victim  # noqa: E402
from support.container import COUNTER, Census, CommandFailed, ConsoleSocket, Container, missing_tools, run  # noqa: E402
from support.harness import expect, expect_equal  # noqa: E402
from support.shim import Restored, checkpoint, checkpoint_and_wait, program  # noqa: E402


def facts_of(container):
    """The order of the device rules is the kernel's memory of their history; it decides nothing."""
    return {key: "".join(sorted(text.splitlines(True))) if key.endswith("devices.list") else text
            for key, text in container.facts().items()}


def counter(scratch, **more):
    container = Container(scratch / "c", ["sh", "-c", COUNTER], **more)
    container.start().wait_for_count(3)
    return container


def test_there_and_back(scratch):
    """Saved from runc, restored by dormouse: everything about the container is the same."""
    container = counter(scratch)
    facts = facts_of(container)
    checkpoint_and_wait(container, scratch / "images")
    expect(container.state()["status"] == "stopped", "runc does not see that its container has stopped")
    container.command("delete", container.id)
    restored = Restored(container)
    restored.restore(scratch / "images")
    expect_equal(facts, facts_of(restored), "after the restore")
    restored.wait_for_count(restored.count() + 5)
    state = restored.state()
    expect(state["bundle"] == str(container.bundle) and state["status"] == "running", f"state says {state}")


def test_again_and_again(scratch):
    """A container that dormouse restored can be saved and restored again; its old state is gone."""
    container = counter(scratch)
    checkpoint_and_wait(container, scratch / "images-0")
    container.command("delete", container.id)
    restored = Restored(container)
    restored.restore(scratch / "images-0")
    for number in range(1, 4):
        last = restored.count()
        checkpoint_and_wait(restored, scratch / f"images-{number}")
        expect(restored.state() is None, "the state outlives the checkpoint")
        restored.restore(scratch / f"images-{number}")
        restored.wait_for_count(last + 3)


def test_leave_running(scratch):
    container = counter(scratch)
    pid, facts = container.pid(), facts_of(container)
    checkpoint(container, scratch / "images", "--leave-running")
    expect(container.pid() == pid, "the container is another one now")
    container.wait_for_count(container.count() + 5)
    expect_equal(facts, facts_of(container), "after a checkpoint with --leave-running")


def test_runc_restores_ours(scratch):
    """What dormouse saved runc restores, with whatever `criu` is under test."""
    container = counter(scratch)
    facts = facts_of(container)
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    container.restore(scratch / "images")
    expect_equal(facts, facts_of(container), "after the restore")
    container.wait_for_count(container.count() + 5)


def test_we_restore_runcs(scratch):
    """What runc saved dormouse restores."""
    container = counter(scratch)
    facts = facts_of(container)
    dumped = tasks.identities(container.pid())
    container.checkpoint(scratch / "images")
    victim.wait_until_gone(dumped)
    restored = Restored(container)
    restored.restore(scratch / "images")
    expect_equal(facts, facts_of(restored), "after the restore")
    restored.wait_for_count(restored.count() + 5)


def test_bind_mounts(scratch):
    """Bind mounts of a directory and of a file, also below a link, come from the bundle's sources."""
    volume = scratch / "volume"
    volume.mkdir()
    (volume / "note").write_text("before")
    (scratch / "hosts").write_text("127.0.0.1 me\n")

    def bind(config):
        config["mounts"] += [{"destination": "/data", "source": str(volume), "type": "none", "options": ["rbind", "rw"]},
                             {"destination": "/etc/hosts", "source": str(scratch / "hosts"), "options": ["bind", "ro"]}]
    container = counter(scratch, change=bind)
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    (volume / "note").write_text("after")
    restored = Restored(container)
    restored.restore(scratch / "images")
    expect(restored.read("/data/note") == "after", "the directory is not the bundle's")
    expect(restored.read("/etc/hosts") == "127.0.0.1 me\n", "the file is not the bundle's")


def test_network_namespace(scratch):
    """A network namespace of the configuration is left alone by both: addresses in it stay as they are."""
    # `ip netns` would leave a mount of its own behind.
    network = scratch / "network"
    network.touch()
    run(["unshare", f"--net={network}", "true"])
    try:
        def join(config):
            for one in config["linux"]["namespaces"]:
                if one["type"] == "network":
                    one["path"] = str(network)
        inside = ["nsenter", f"--net={network}"]
        run([*inside, "ip", "address", "add", "10.1.2.3/32", "dev", "lo"])
        container = counter(scratch, change=join)
        checkpoint_and_wait(container, scratch / "images")
        container.command("delete", container.id)
        restored = Restored(container)
        restored.restore(scratch / "images")
        expect(os.stat(f"/proc/{restored.pid()}/ns/net").st_ino == os.stat(network).st_ino,
               "the container is not in the given network namespace")
        expect("10.1.2.3" in run([*inside, "ip", "address"]), "the address is gone")
        restored.delete()
    finally:
        run(["umount", str(network)])


def test_limits(scratch):
    """Limits of the configuration are set before the container lives again."""
    def limit(config):
        config["linux"]["resources"].update({"memory": {"limit": 100 << 20}, "pids": {"limit": 77}, "cpu": {"shares": 512}})
    container = counter(scratch, change=limit)
    facts = facts_of(container)
    expect(any(text.strip() == "77" for key, text in facts.items() if key.endswith("pids.max")), "the limit of 77 tasks is not to be seen")
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    restored = Restored(container)
    restored.restore(scratch / "images")
    expect_equal(facts, facts_of(restored), "after the restore")


def hooks(scratch, fail=None):
    """A change that makes every kind of hook write down the state it was given."""
    folder = scratch / "hooks"
    folder.mkdir()

    def add(config):
        config["hooks"] = {}
        for kind in ("prestart", "createRuntime", "poststart", "poststop"):
            script = folder / f"{kind}.sh"
            script.write_text(f"#!/bin/sh\ncat >> {folder}/{kind}\necho {kind} >> {folder}/order\n{'exit 3' if kind == fail else ''}\n")
            script.chmod(0o755)
            config["hooks"][kind] = [{"path": str(script), "args": [kind], "timeout": 10}]
    return folder, add


def test_hooks(scratch):
    """Hooks run in the specification's order, with the state of the restored container."""
    container = counter(scratch)
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    folder, add = hooks(scratch)
    config = json.loads((container.bundle / "config.json").read_text())
    add(config)
    (container.bundle / "config.json").write_text(json.dumps(config))
    restored = Restored(container)
    restored.restore(scratch / "images")
    pid = restored.pid()
    expect((folder / "order").read_text().split() == ["prestart", "createRuntime", "poststart"], (folder / "order").read_text())
    state = json.loads((folder / "createRuntime").read_text())
    expect(state["pid"] == pid and state["id"] == container.id and state["bundle"] == str(container.bundle), f"the hook was given {state}")
    restored.command("delete", "--force", container.id)
    expect((folder / "order").read_text().split()[-1] == "poststop", "the last hook did not run")


def expect_failed_restore(restored, images, text):
    before = Census.take()
    try:
        output = run([*restored.runtime, "restore", "-d", "--bundle", restored.bundle, "--image-path", images, restored.id])
    except CommandFailed as failure:
        output = failure.output
    else:
        raise harness.Wrong("the restore does not fail")
    lines = [line for line in output.splitlines() if line.startswith("dormouse: ")]
    expect(len(lines) == 1 and text in lines[0], f"it says {output!r}, not {text!r}")
    expect_equal(before, Census.settle(before), "on the node, after the failure")
    expect(restored.state() is None, "there is a state left")


def test_failing_hook(scratch):
    """A hook that fails ends the restore, and nothing is left behind."""
    container = counter(scratch)
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    folder, add = hooks(scratch, fail="createRuntime")
    config = json.loads((container.bundle / "config.json").read_text())
    add(config)
    (container.bundle / "config.json").write_text(json.dumps(config))
    expect_failed_restore(Restored(container), scratch / "images", "createRuntime.sh: exited with status 3")
    expect((folder / "order").read_text().split() == ["prestart", "createRuntime", "poststop"], (folder / "order").read_text())


def test_failing_restores(scratch):
    """Broken bundles and checkpoints are told in one line each, and nothing is left behind."""
    container = counter(scratch)
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    restored = Restored(container)
    good = (container.bundle / "config.json").read_text()

    def with_config(change, text):
        config = json.loads(good)
        change(config)
        (container.bundle / "config.json").write_text(json.dumps(config))
        expect_failed_restore(restored, scratch / "images", text)
        (container.bundle / "config.json").write_text(good)

    (container.bundle / "config.json").write_text("ociVersion: 1\n")
    expect_failed_restore(restored, scratch / "images", "config.json: not JSON")
    (container.bundle / "config.json").write_text(good)
    with_config(lambda config: config["root"].pop("path"), "root.path: is missing")
    with_config(lambda config: config["root"].update(path="/no/such/root"), "/no/such/root")
    with_config(lambda config: config["mounts"].append({"destination": "/x", "source": "/no/such", "type": "bind"}), "/no/such on /x")
    with_config(lambda config: config["linux"]["resources"].update(unified={}, memory={"limit": 4096}), "memory")
    expect_failed_restore(restored, scratch / "nothing", "nothing")


def test_foreground(scratch):
    """Without --detach: signals reach the container, its exit status is ours, and nothing stays."""
    script = "trap 'echo got it; exit 7' TERM; echo ready; while :; do sleep 0.05; done"
    container = Container(scratch / "c", ["sh", "-c", script])
    reader, writer = os.pipe()
    container.start(stdout=writer)
    os.close(writer)
    expect(os.read(reader, 6) == b"ready\n", "it does not start")
    checkpoint_and_wait(container, scratch / "images")
    os.close(reader)
    container.command("delete", container.id)
    restored = Restored(container)
    before = Census.take()
    runtime = subprocess.Popen([*restored.runtime, "restore", "--bundle", container.bundle, "--image-path", scratch / "images", container.id],
                               stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    victim.wait_until(lambda: restored.pid() is not None, "the container runs")
    runtime.send_signal(signal.SIGTERM)
    output, errors = runtime.communicate(timeout=30)
    expect((runtime.returncode, output) == (7, "got it\n"), f"exit {runtime.returncode}: {output!r} {errors!r}")
    expect(restored.state() is None, "its state is still there")
    expect_equal(before, Census.settle(before), "on the node")


def test_terminal(scratch):
    """The terminal of a restored container goes to the console socket."""
    # An interactive shell opens /dev/tty, which is refused so far.
    container = Container(scratch / "c", ["sh", "-c", 'while read -r line; do eval "$line"; done'], terminal=True)
    first = ConsoleSocket(scratch / "c/first.sock")
    container.start(console=first)
    first.accept()
    first.write("remembered=4711; echo set-$((1+1))\n")
    first.expect("set-2")
    checkpoint_and_wait(container, scratch / "images")
    first.close()
    container.command("delete", container.id)
    restored = Restored(container)
    second = ConsoleSocket(scratch / "c/second.sock")
    restored.restore(scratch / "images", console=second)
    second.accept()
    second.write("echo it-is-$remembered\n")
    second.expect("it-is-4711")
    second.write("exit 0\n")
    victim.wait_until(lambda: restored.pid() is None, "the shell exits")
    second.close()


def test_kill_and_delete(scratch):
    container = counter(scratch)
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    restored = Restored(container)
    restored.restore(scratch / "images")
    with contextlib.suppress(CommandFailed):
        restored.command("delete", container.id)
        raise harness.Wrong("a running container was deleted without force")
    restored.command("kill", container.id, "KILL")
    victim.wait_until(lambda: (victim.reap(), restored.state())[1]["status"] == "stopped", "it stops")
    restored.command("delete", container.id)
    expect(restored.state() is None, "it is still there")


def test_killed_in_the_middle(scratch):
    """Killed while a hook runs, dormouse leaves what `delete --force` removes."""
    container = counter(scratch)
    checkpoint_and_wait(container, scratch / "images")
    container.command("delete", container.id)
    before = Census.take()
    hook = scratch / "hook.sh"
    hook.write_text(f"#!/bin/sh\ntouch {scratch}/reached\nexec sleep 1000\n")
    hook.chmod(0o755)
    config = json.loads((container.bundle / "config.json").read_text())
    config["hooks"] = {"createRuntime": [{"path": str(hook)}]}
    (container.bundle / "config.json").write_text(json.dumps(config))
    restored = Restored(container)
    runtime = subprocess.Popen([*restored.runtime, "restore", "-d", "--bundle", container.bundle, "--image-path", scratch / "images", container.id],
                               stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    victim.wait_until((scratch / "reached").exists, "the hook runs")
    runtime.kill()
    runtime.wait()
    expect(restored.state()["status"] == "creating", f"{restored.state()}")
    restored.command("delete", "--force", container.id)
    for pid in tasks.tree(os.getpid())[1:]:  # the hook is ours now
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    victim.reap()
    expect_equal(before, Census.settle(before), "on the node")


def leaving_nothing_behind(test, scratch):
    before = Census.take()
    skipped = test(scratch)
    delete_all()
    expect_equal(before, Census.settle(before), "on the node, when all is over")
    return skipped


def delete_all():
    for container in Container.made:
        container.delete()


def lacking():
    return missing_tools() + ([] if os.access(program(), os.X_OK) else [program()])


if __name__ == "__main__":
    sys.exit(harness.main(globals(), delete_all, lacking, leaving_nothing_behind))
