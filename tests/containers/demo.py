#!/usr/bin/env python3
"""A container sleeps and wakes, for people to watch; see scripts/demo."""
import contextlib
import pathlib
import shutil
import subprocess
import sys
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import engine, harness, shim, stats, tasks, victim  # noqa: E402
from support.container import COUNTER, CommandFailed, Container, missing_tools  # noqa: E402

SHOW = sys.stdout.isatty()
GREEN, RED, BOLD, DIM, PLAIN = ("\033[32m", "\033[31m", "\033[1m", "\033[2m", "\033[0m") if SHOW else ("",) * 5


class Step:
    """One line: turning while it goes on, ticked or crossed when it is over."""

    def __init__(self, text):
        self.text, self.detail, self.over = text, "", threading.Event()

    def _turn(self):
        begin = time.monotonic()
        for picture in iter(lambda: "⠋⠙⠹⠸⠼⠴⠦⠧⠇⠏"[int((time.monotonic() - begin) * 12) % 10], None):
            print(f"\r  {picture} {self.text}", end="", flush=True)
            if self.over.wait(0.08):
                break

    def __enter__(self):
        self.thread = threading.Thread(target=self._turn, daemon=True)
        if SHOW:
            self.thread.start()
        return self

    def __exit__(self, kind, problem, trace):
        self.over.set()
        if SHOW:
            self.thread.join()
        mark = f"{GREEN}✔{PLAIN}" if kind is None else f"{RED}✘{PLAIN}"
        if not SHOW:
            mark = "ok  " if kind is None else "FAIL"
        print(("\r\033[K" if SHOW else "") + f"  {mark} {self.text}{DIM}{': ' if self.detail else ''}{self.detail}{PLAIN}", flush=True)


def summary_of(images):
    """What `dormouse inspect` says of an image."""
    return subprocess.run([shim.program(), "inspect", images], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, check=True).stdout


def through_runc(container, images):
    """runc does all of it, with our criu; the container that it restores is the one that it saved."""
    container.checkpoint(images)
    return container


def through_dormouse(container, images):
    """dormouse saves what runc started; what it restores is its own, so runc may forget about it."""
    shim.checkpoint(container, images)
    container.command("delete", container.id)
    return shim.Restored(container)


def sleep_and_wake(title, scratch, put_to_sleep):
    print(f"\n{BOLD}{title}{PLAIN}")
    container = Container(scratch, ["sh", "-c", COUNTER])
    images = container.scratch / "images"
    try:
        with Step("start a busybox container: one process counts, one adds up what comes down a pipe") as step:
            container.start().wait_for_count(25)
            step.detail = f"the count is at {container.count()}"
        with Step("checkpoint it") as step:
            inhabitants = tasks.identities(container.pid())
            before = container.count()
            begin = time.monotonic()
            container = put_to_sleep(container, images)
            took = (time.monotonic() - begin) * 1000
            frozen = stats.read(images / "stats-dump")["frozen_time"] / 1000
            step.detail = f"{took:.0f} ms in all, frozen for {frozen:.1f} ms"
        for line in summary_of(images).rstrip().splitlines():
            print(f"      {DIM}{line}{PLAIN}")
        with Step("it is gone") as step:
            victim.wait_until_gone(inhabitants)
            harness.expect(container.state() is None, "the runtime still knows it")
            step.detail = f"{len(inhabitants)} processes have ended; the runtime does not know it any more"
        time.sleep(1)
        with Step("restore it") as step:
            begin = time.monotonic()
            container.restore(images)
            step.detail = f"{(time.monotonic() - begin) * 1000:.0f} ms in all"
        with Step("it goes on: count, pipe and the file on its tmpfs") as step:
            after = container.count()
            harness.expect(before <= after < before + 500, f"the count went from {before} to {after}")
            end = container.wait_for_count(after + 25)
            step.detail = f"asleep at {before}, woken at {after}, now at {end}; no number was lost"
    finally:
        container.delete()


def main():
    lacking = missing_tools()
    if lacking:
        print(f"The demo cannot run: this machine lacks {', '.join(lacking)}.")
        return 1
    victim.become_subreaper()
    victim.leave_the_others()  # a restore mounts the container's root for a moment
    scratch = engine.build_directory() / "demo"
    shutil.rmtree(scratch, ignore_errors=True)
    try:
        sleep_and_wake("Through runc, with our criu", scratch / "runc", through_runc)
        sleep_and_wake("Through dormouse", scratch / "dormouse", through_dormouse)
    except (harness.Wrong, engine.Failed, CommandFailed, TimeoutError, OSError, subprocess.SubprocessError) as problem:
        print(f"\n{RED}It did not work: {problem}{PLAIN}\nWhat there is to look at: {scratch}")
        return 1
    finally:
        with contextlib.suppress(TimeoutError):
            victim.kill_descendants()
    shutil.rmtree(scratch)
    print(f"\n{GREEN}All went on as if nothing had happened.{PLAIN}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
