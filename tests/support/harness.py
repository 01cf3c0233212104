"""main() of the scripts whose tests are functions named test_…, each given a scratch directory of its
own. A test passes by returning None, is skipped by returning a reason, and fails by an exception."""
import argparse
import pathlib
import shutil
import subprocess
import sys
import traceback

from support import engine, tasks, victim


class Wrong(Exception):
    """Something is not as it must be."""


def expect(condition, text):
    if not condition:
        raise Wrong(text)


def expect_equal(before, after, when):
    lines = tasks.differences(before, after)
    expect(not lines, f"{when}, {len(lines)} differences:\n  " + "\n  ".join(lines[:30]))


def expect_unchanged(before, root, when, at_rest=True):
    """The tasks below root are as a snapshot shows them, at once or very soon."""
    lines = tasks.lasting_differences(before, root, at_rest)
    expect(not lines, f"{when}, /proc shows {len(lines)} differences:\n  " + "\n  ".join(lines[:30]))


def expect_pass(man):
    verdict = man.go()
    expect(verdict == "PASS", f"the workload says: {verdict}")


def main(functions, clean_up=lambda: None, lacking=lambda: [], around=None):
    tests = {name.removeprefix("test_"): function for name, function in functions.items() if name.startswith("test_")}
    parser = argparse.ArgumentParser()
    parser.add_argument("--scratch", type=pathlib.Path, required=True)
    parser.add_argument("test", choices=sorted(tests))
    options = parser.parse_args()
    absent = lacking()
    if absent:
        print(f"SKIP: this machine lacks {', '.join(absent)}")
        return victim.SKIPPED
    victim.become_subreaper()
    victim.leave_the_others()
    scratch = options.scratch.resolve()
    shutil.rmtree(scratch, ignore_errors=True)
    scratch.mkdir(parents=True)
    try:
        skipped = around(tests[options.test], scratch) if around else tests[options.test](scratch)
    except (Wrong, engine.Failed, TimeoutError, LookupError, OSError, RuntimeError, subprocess.SubprocessError) as problem:
        if not isinstance(problem, (Wrong, engine.Failed)):
            traceback.print_exc(file=sys.stdout)
        print(f"FAIL: {problem}\nsee {scratch}")
        return 1
    finally:
        clean_up()
        victim.kill_descendants()
    subprocess.run(["umount", "-q", "-R", str(scratch)], check=False, stderr=subprocess.DEVNULL)
    shutil.rmtree(scratch, ignore_errors=True)
    if skipped:
        print(f"SKIP: {skipped}")
        return victim.SKIPPED
    return 0
