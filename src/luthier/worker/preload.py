"""What the fork server imports: the workshop, so that a job's process starts in milliseconds.

What it does: on Linux it first asks the kernel to end the fork server with the worker, because the server looks at its own
pipe only after these imports, which take seconds. What it does not: run in any other process. Named in ``lanes.py``.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1  # linux/prctl.h

if sys.platform == "linux":
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == 1:  # the worker died before we could ask
        os._exit(0)

# torch's bridge to oneDNN keeps up to 1,024 descriptions of products of 0.25 MB each, and asks oneDNN for each product all the same, which
# has a store of its own: a quarter less memory for a run of many lengths, and no time (experiments/LOG.md).
os.environ.setdefault("LRU_CACHE_CAPACITY", "16")

import torch._dynamo  # noqa: E402, F401 - torch imports it when the first optimiser is made: almost two seconds of every job

import luthier.worker.child  # noqa: E402 - after the request above, on purpose
import luthier.worker.data_child  # noqa: E402
import luthier.worker.group_child  # noqa: E402, F401
