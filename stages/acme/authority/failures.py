"""How issuing fails. Decides only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from pingap.stages.acme.authority.problems import AcmeProblem, shown

MOST: Final = 4000
"""Letters of a text, whatever an authority has said of however many names."""


class IssueFailed(Exception):
    """No certificate came of it. The text is for users: which name, what the authority saw, what to do; no secret is in it."""

    def __init__(self, text: str, problem_type: str = "", retry_at: float | None = None, is_final: bool = False) -> None:
        """problem_type: the authority's word, such as `rateLimited`; "" when it said none. retry_at: seconds since 1970 before which the
        authority does not want to be asked again. is_final: with the same configuration it will hardly go better, so seldom is enough.
        """
        super().__init__(shown(text, MOST))
        self.problem_type = problem_type
        self.retry_at = retry_at
        self.is_final = is_final


class AuthorityUnreachable(IssueFailed):
    """It could not be asked, or what answered speaks no ACME: may be better in a moment."""


class AuthorityRefused(Exception):
    """It answered with a problem document. For callers that know what to do about it; the rest is said by `in_words`."""

    def __init__(self, problem: AcmeProblem, status: int, headers: Mapping[str, str]) -> None:
        super().__init__(problem.detail)
        self.problem = problem
        self.status = status
        self.headers = headers
