"""What is ready at once is heard one after the other, and may be dismissed meanwhile."""

from __future__ import annotations

import os
import selectors
from contextlib import ExitStack

from reconciler.daemon.ready import ready


def test_who_was_dismissed_is_not_heard() -> None:
    with ExitStack() as stack:
        selector = stack.enter_context(selectors.DefaultSelector())
        pipes = [os.pipe() for _ in range(2)]
        for reading, writing in pipes:
            stack.callback(os.close, reading)
            stack.callback(os.close, writing)
            os.write(writing, b"x")
            selector.register(reading, selectors.EVENT_READ)
        heard = []
        for key in ready(selector, 1):
            heard.append(key.fd)
            for reading, _ in pipes:
                selector.unregister(reading)
                selector.register(reading, selectors.EVENT_READ)  # as a new descriptor of the same number would be
        assert len(heard) == 1


def test_all_that_are_ready_are_heard() -> None:
    with selectors.DefaultSelector() as selector:
        reading, writing = os.pipe()
        selector.register(reading, selectors.EVENT_READ)
        assert list(ready(selector, 0)) == []
        os.write(writing, b"x")
        assert [key.fd for key in ready(selector, 1)] == [reading]
        os.close(reading)
        os.close(writing)
