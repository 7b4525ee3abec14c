"""Opening a store, in a thread: it takes locks that another process may hold for as long as it likes, and asks a disk."""

from __future__ import annotations

import threading
from collections.abc import Callable

import lmdb

from pingap.stages.plugins.cache.store.shelf import StoreShelf
from pingap.stages.plugins.cache.store.store_root import StoreRoot


class StoreOpening:
    """One try. What it comes to is for who made it once `is_done`."""

    def __init__(self, root: StoreRoot, before: threading.Thread | None, done: Callable[[StoreOpening], None]) -> None:
        """before: what still closes that store in this process. done: is told in the thread."""
        self._root = root
        self._before = before
        self._done = done
        self.shelf: StoreShelf | None = None
        self.problem = ""
        """Why there is none."""
        self.is_done = False
        self.thread = threading.Thread(target=self._run, name="cache opening", daemon=True)

    def _run(self) -> None:
        try:
            if self._before is not None:
                self._before.join()
            self.shelf = self._root.opened()
        except (OSError, lmdb.Error, ValueError) as error:
            self.problem = str(error)
        except Exception as error:  # what is there decodes to something that nobody wrote, say
            self.problem = repr(error)
        self.is_done = True
        self._done(self)
