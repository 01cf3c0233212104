#!/usr/bin/env python3
"""Runs one workload in one flavour through one mode:

  live.py --flavour host|namespaces --mode MODE --scratch DIRECTORY WORKLOAD

  native          no checkpoint at all: the workload itself must be right
  restore         dump, restore, go on
  leave_running   dump with --leave-running: the victim must be exactly as it was; then it goes on
  rounds          three times dump and restore, with an image of each round kept
  pre_dump        three pre-dumps, each on top of the one before, then dump on top of these, restore, go on
  snapshots       the same with dumps --leave-running in place of the pre-dumps; earlier pages that were replaced are
                  dropped from the images
  refused         the dump must fail, say why in one complete line, and leave the victim exactly as it was
  to_reference    dumped by ours, restored by $REFERENCE_CRIU
  from_reference  dumped by $REFERENCE_CRIU, restored by ours

Besides the workload's own verdict, everything that /proc shows of the tasks must be the same after a
restore. Exit status: 0 passed, 77 skipped, 1 failed; what is of use then stays in DIRECTORY."""
import argparse
import pathlib
import shutil
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1]))
from support import engine, tasks, victim  # noqa: E402
from support.harness import Wrong, dump_is_refused, expect_unchanged  # noqa: E402


def restore(engine_, man, pids):
    """On the host's tree any other process may have taken a pid meanwhile: that alone is tried again."""
    for attempt in range(5):
        try:
            return engine_.restore(*man.restore_arguments)
        except engine.Failed as failure:
            victim.reap()
            taken = [pid for pid in pids if tasks.status(pid)]
            if man.flavour != "host" or not taken:
                raise
            print(f"pids {taken} are taken by somebody else; attempt {attempt + 1}: {failure}")
    raise Wrong("the pids stayed taken")


def dump_and_restore(man, images, dumper, restorer):
    dumped = tasks.identities(man.root_pid)
    before = tasks.stable_snapshot(man.root_pid)
    engine.Engine(dumper, images).dump(man.root_pid, *man.dump_arguments)
    victim.wait_until_gone(dumped)
    man.root_pid = restore(engine.Engine(restorer, images), man, [pid for pid, _ in dumped])
    if not man.moving:
        expect_unchanged(before, man.root_pid, "after the restore", at_rest=False)


def build_on(man, images, first, *arguments):
    """Three rounds of the action `first`, a dump on top of them, and the restore of that."""
    before = tasks.stable_snapshot(man.root_pid)
    tasks.flags_of_no_interest.add("uw")  # that memory is tracked shows, as long as it is
    for number in range(1, 4):
        parent = ["--prev-images-dir", f"../{number - 1}"] if number > 1 else []
        engine.Engine(engine.ours(), images / str(number)).run(first, "-t", str(man.root_pid), "--track-mem", *parent,
                                                               *arguments, *man.dump_arguments)
        if not man.moving:
            expect_unchanged(before, man.root_pid, f"after {first} {number}", at_rest=False)
    dumped = tasks.identities(man.root_pid)
    last = images / "4"
    tasks.flags_of_no_interest.remove("uw")
    man.dump_arguments += ["--track-mem", "--prev-images-dir", "../3", *[a for a in arguments if a != "--leave-running"]]
    engine.Engine(engine.ours(), last).dump(man.root_pid, *man.dump_arguments)
    victim.wait_until_gone(dumped)
    man.root_pid = restore(engine.Engine(engine.ours(), last), man, [pid for pid, _ in dumped])
    if not man.moving:
        expect_unchanged(before, man.root_pid, "after the restore", at_rest=False)


def run(man, mode, images):
    man.start()
    verdict = man.verdict()
    if verdict:  # it did not come as far as the checkpoint
        return verdict
    if mode == "native":
        return man.go()
    ours, reference = engine.ours(), engine.reference()
    if mode == "leave_running":
        before = tasks.stable_snapshot(man.root_pid, at_rest=True)
        engine.Engine(ours, images / "1").dump(man.root_pid, "--leave-running", *man.dump_arguments)
        if not man.moving:
            expect_unchanged(before, man.root_pid, "after a dump with --leave-running")
    elif mode == "refused":
        dump_is_refused(man, images / "1")
    elif mode == "restore":
        dump_and_restore(man, images / "1", ours, ours)
    elif mode == "rounds":
        for number in range(1, 4):
            dump_and_restore(man, images / str(number), ours, ours)
    elif mode == "pre_dump":
        build_on(man, images, "pre-dump")
    elif mode == "snapshots":
        build_on(man, images, "dump", "--leave-running", "--auto-dedup")
    elif mode == "to_reference":
        dump_and_restore(man, images / "1", ours, reference)
    elif mode == "from_reference":
        dump_and_restore(man, images / "1", reference, ours)
    return man.go()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--flavour", choices=["host", "namespaces"], default="host")
    parser.add_argument("--mode", default="restore",
                        choices=["native", "restore", "refused", "leave_running", "rounds", "pre_dump", "snapshots", "to_reference",
                                 "from_reference"])
    parser.add_argument("--moving", action="store_true", help="the workload's tasks change by themselves; leave /proc out")
    parser.add_argument("--option", action="append", default=[], help="an option of dump and restore that the workload needs")
    parser.add_argument("--nest", type=pathlib.Path, help="the launcher that makes the namespaces")
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("workload", type=pathlib.Path)
    options = parser.parse_args()
    if "reference" in options.mode and not engine.reference():
        print("SKIP: REFERENCE_CRIU is not set")
        return victim.SKIPPED

    victim.become_subreaper()
    scratch = options.scratch.resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    images = scratch / "images"
    man = victim.make(options.flavour, options.workload.resolve(), scratch / "victim", options.nest)
    man.moving = options.moving
    man.dump_arguments += options.option
    man.restore_arguments += options.option
    try:
        verdict = run(man, options.mode, images)
    except (Wrong, engine.Failed, TimeoutError, LookupError) as problem:
        print(f"FAIL: {problem}")
        said = man.verdict()
        if said:
            print(f"the workload said: {said}")
        print(f"see {scratch}")
        return 1
    finally:
        victim.kill_descendants()
    if verdict.startswith("SKIP"):
        print(verdict)
        return victim.SKIPPED
    if verdict != "PASS":
        print(f"{verdict}\nsee {scratch}")
        return 1
    shutil.rmtree(scratch)
    return 0


if __name__ == "__main__":
    sys.exit(main())
