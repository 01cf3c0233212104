"""main() of the scripts whose tests are functions named test_…, each given a scratch directory of its
own. A test passes by returning None, is skipped by returning a reason, and fails by an exception."""
import argparse
import pathlib
import re
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


# "Error (file:line): OBJECT of OWNER: REASON (REMEDY)"
COMPLETE = re.compile(r"Error \([\w/.]+:\d+\): (?P<object>.+?) of (?P<owner>.+?): (?P<reason>.+) \((?P<remedy>.+)\)$")
# Where there is no owner, as with an image file: "OBJECT: REASON (REMEDY)"
OWNERLESS = re.compile(r"Error \([\w/.]+:\d+\): (?P<object>.+?): (?P<reason>.+) \((?P<remedy>.+)\)$")


def check_lines(failure, *mentioned, owner=True):
    """The failure's log has "Error" only on complete lines, and one of them mentions all these words."""
    lines = failure.errors()
    expect(lines, f"no line of the log says Error; the output is {failure.output!r}")
    for line in lines:
        expect((COMPLETE if owner else OWNERLESS).search(line), f"this line does not say object, owner, reason and remedy: {line}")
    for words in mentioned:
        words = words if isinstance(words, tuple) else (words,)
        expect(any(all(word in line for word in words) for line in lines), f"no line mentions {' and '.join(words)}:\n  " + "\n  ".join(lines))


def dump_is_refused(man, images, *mentioned, arguments=(), **more):
    """Also: the victim is as it was, and what stands in the directory does not look like a checkpoint."""
    before = tasks.stable_snapshot(man.root_pid, at_rest=True)
    try:
        engine.Engine(engine.ours(), images).dump(man.root_pid, *man.dump_arguments, *arguments)
    except engine.Failed as failure:
        check_lines(failure, *mentioned, **more)
    else:
        raise Wrong("the dump succeeded")
    expect_unchanged(before, man.root_pid, "after a refused dump")
    left = sorted(file.name for file in images.iterdir() if file.suffix == ".img" or file.name in ("dormouse.json", "stats-dump"))
    expect(not left, f"the refused dump left {left}")


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
