"""What each task is, one class a task; `lit_vdistill.types.Task` says what there is to tell of one.

Who names tasks or goes through them imports `Task` from here, so that all of ours are known: each
file of this folder is imported, in the order of their names, and need not be named anywhere.
"""

from importlib import import_module
from pkgutil import iter_modules

from lit_vdistill.types import Task

for _module in sorted(module.name for module in iter_modules(__path__, f"{__name__}.")):
    import_module(_module)

__all__ = ["Task"]
