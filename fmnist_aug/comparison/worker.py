"""The other end of `jobs`: a process that has everything loaded and forks itself for each run.

Importing torch costs seconds and hundreds of megabytes. Here it is paid once, and the forks share
the memory, that of the images too. A fork lives for one run: it gives its memory back, and if it
is killed, that one run is lost. Forking is safe since this process never computes in threads.
"""

from __future__ import annotations

import _thread
import contextlib
import gc
import os
import signal
import socket
import sys
import threading
import time
import traceback
from collections.abc import Callable
from multiprocessing.connection import Connection
from typing import Any, NoReturn

GRACE_SECONDS = 2.0
"""Time for a run that is stopped to leave its files whole."""

Work = Callable[[Any, Callable[[Any], None]], Any]
"""Does a task; is given something to tell how far it is."""


def serve(descriptor: int, forks: bool) -> None:
    """Take tasks from the parent until it has gone. Called in a process of its own.

    Args:
        descriptor: of a socket on which the parent sends the work and the number of threads, and
            then for each task one end of a pipe.
        forks: whether to fork for a task, or to do a single one in this very process.
    """
    import torch

    control = socket.socket(fileno=descriptor)
    with contextlib.suppress(EOFError, OSError):
        with Connection(os.dup(descriptor)) as inputs:
            work, threads = inputs.recv()
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # no zombies
        gc.freeze()  # the collector would write to pages that are shared
        while True:
            _, pipes, _, _ = socket.recv_fds(control, 1, 1)
            if not pipes:
                return
            if not forks or os.fork() == 0:
                control.close()
                signal.signal(signal.SIGCHLD, signal.SIG_DFL)
                torch.set_num_threads(threads)
                _do_task(work, Connection(pipes[0]))
            os.close(pipes[0])


def _do_task(work: Work, parent: Connection) -> NoReturn:
    """Tell the parent (kind, value): how far it is, then what came of it."""
    try:
        task = parent.recv()
        parent.send(("started", os.getpid()))
        threading.Thread(target=_end_with_parent, args=(parent,), daemon=True).start()
        try:
            answer = "finished", work(task, lambda value: parent.send(("progress", value)))
        except Exception as error:
            error.add_note(traceback.format_exc())  # else --debug could not show where
            answer = "failed", error
        parent.send(answer)
    except (KeyboardInterrupt, EOFError, OSError):  # the parent wants no answer any more
        pass
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(0)


def _end_with_parent(parent: Connection) -> None:
    with contextlib.suppress(EOFError, OSError):
        parent.recv()  # it sends nothing more: this ends when it asks to end, or has gone
    _thread.interrupt_main()
    time.sleep(GRACE_SECONDS)
    os._exit(1)
