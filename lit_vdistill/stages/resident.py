"""What a process of the run takes of the machine's memory."""

import multiprocessing
import os

import psutil


def resident_gib() -> float:
    """GiB in memory of this process and its loading processes; what they share counts twice.

    The decoders' and W&B's processes are not in it.
    """
    own = [os.getpid(), *(child.pid for child in multiprocessing.active_children())]
    return sum(psutil.Process(pid).memory_info().rss for pid in own if pid is not None) / 2**30
