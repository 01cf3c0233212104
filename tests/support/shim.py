"""The program `dormouse` beside runc: runc starts a container, dormouse saves and restores it."""
import os

from . import engine, tasks, victim
from .container import Container, run


def program():
    return os.environ.get("DORMOUSE") or str(engine.build_directory() / "bin/dormouse")


class Restored(Container):
    """The container of a bundle under `dormouse`; what it inherits asks runc's questions of dormouse."""

    def __init__(self, original):
        self.scratch, self.bundle, self.id = original.scratch, original.bundle, original.id
        self.environment = original.environment
        self.states = self.scratch / "own-state"
        self.runtime = [program(), "--root", str(self.states)]
        Container.made.append(self)


def checkpoint(container, images, *options):
    """With dormouse; runc's state is where the container was started with."""
    states = container.states if isinstance(container, Restored) else container.scratch / "state"
    run([program(), "checkpoint", "--root", states, "--image-path", images, *options, container.id])


def checkpoint_and_wait(container, images, *options):
    dumped = tasks.identities(container.pid())
    checkpoint(container, images, *options)
    victim.wait_until_gone(dumped)
