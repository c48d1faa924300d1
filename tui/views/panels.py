"""How the panels share the screen's height."""

from __future__ import annotations

from typing import NamedTuple

TITLE_AND_HEADER = 2
LEAST_LOG = 6
LOG_SHARE = 0.4


class Heights(NamedTuple):
    fleet: int
    jobs: int
    log: int


def share_height(total: int, fleet_rows: int, job_rows: int) -> Heights:
    """Fleet and jobs get what they need, up to a limit; the log gets the rest."""
    most = max(0, total - max(LEAST_LOG, int(total * LOG_SHARE)))
    fleet_wanted, jobs_wanted = fleet_rows + TITLE_AND_HEADER, job_rows + TITLE_AND_HEADER
    fleet = min(fleet_wanted, max(most - jobs_wanted, int(most * 0.6)))
    jobs = min(jobs_wanted, most - fleet)
    return Heights(fleet, jobs, total - fleet - jobs)
