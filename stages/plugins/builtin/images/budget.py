"""How many bytes of images may be held at the same time, so that many large ones do not fill the memory."""

from __future__ import annotations


class ImageBudget:
    """So many bytes."""

    def __init__(self, most: int) -> None:
        self._most = most
        self.used = 0

    def take(self, size: int) -> BudgetShare | None:
        """A share, given back when nobody refers to it any more; None when there is not enough left."""
        return BudgetShare(self, size) if self.used + size <= self._most else None


class BudgetShare:
    """Bytes that are taken as long as this lives. An answer may end in many ways; whoever holds its body holds this along."""

    def __init__(self, budget: ImageBudget, size: int) -> None:
        self._budget = budget
        self._size = size
        budget.used += size

    def __del__(self) -> None:
        self._budget.used -= self._size
