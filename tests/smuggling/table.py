"""`python -m tests.smuggling.table`: runs the suite and prints families, payloads, verdicts and disagreements."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence

from tests.smuggling.http2_side import Http2Outcome
from tests.smuggling.lab import Lab
from tests.smuggling.payloads_http2 import PAYLOADS as HTTP2_PAYLOADS
from tests.smuggling.suite import DOORS, HTTP2_DOORS, PAYLOADS, Outcome, run_all, run_http2
from tests.smuggling.verdict import of_origins

VERDICTS = ("passed", "answered", "refused")


def table(outcomes: Sequence[Outcome | Http2Outcome]) -> str:
    """Rows of Markdown; verdicts count runs, one for each payload and door."""
    lines = ["| family | payloads | runs | passed on | answered | refused | disagreements |", "| --- | --- | --- | --- | --- | --- | --- |"]
    families = list(dict.fromkeys(outcome.payload.family for outcome in outcomes))
    for family in [*families, None]:
        of = [outcome for outcome in outcomes if family is None or outcome.payload.family == family]
        passed, answered, refused = (sum(outcome.verdict == verdict for outcome in of) for verdict in VERDICTS)
        wrong = sum(bool(outcome.wrong) for outcome in of)
        count = len({(outcome.payload.family, outcome.payload.name) for outcome in of})
        lines.append(f"| {family or 'all'} | {count} | {len(of)} | {passed} | {answered} | {refused} | {wrong} |")
    return "\n".join(lines)


def main() -> int:
    began = time.monotonic()
    with Lab(DOORS + HTTP2_DOORS) as lab:
        ready = time.monotonic()
        outcomes: list[Outcome | Http2Outcome] = []
        outcomes += run_all(lab, PAYLOADS, DOORS, thorough=True)
        outcomes += run_http2(lab, HTTP2_PAYLOADS, HTTP2_DOORS, thorough=True)
        ran = time.monotonic()
        in_all = of_origins(lab)
    print(table(outcomes))
    for outcome in outcomes:
        if outcome.wrong:
            print(f"{outcome.payload.family}: {outcome.payload.name} at {outcome.run.door.name}: {'; '.join(outcome.wrong)}")
        if not outcome.is_expected:
            print(f"{outcome.payload.family}: {outcome.payload.name} at {outcome.run.door.name}: {outcome.verdict}, {outcome.run.answers}")
    print(*in_all, sep="\n")
    print(f"ready in {ready - began:.1f} s, ran in {ran - ready:.1f} s, judged in {time.monotonic() - ran:.1f} s")
    return int(bool(in_all) or any(outcome.wrong for outcome in outcomes))


if __name__ == "__main__":
    sys.exit(main())
