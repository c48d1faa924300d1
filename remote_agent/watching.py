"""What changed in the job list since it was last told."""

from __future__ import annotations

from typing import Any, Dict, List, Optional

from remote_agent.protocol.job import JobRecord


class Changes:
    """A growing log alone is no change: it would push the list at every look."""

    def __init__(self) -> None:
        self._told: Optional[Dict[str, JobRecord]] = None

    def since_last(self, records: List[JobRecord]) -> Optional[Dict[str, Any]]:
        """``{"changed": [record…], "removed": [id…]}``, everything the first time; None when
        nothing changed."""
        now = {record.job_id: record for record in records}
        before, self._told = self._told, now
        known = before or {}
        changed = [r.to_json() for r in records if not _same(known.get(r.job_id), r)]
        removed = [job_id for job_id in known if job_id not in now]
        if before is not None and not changed and not removed:
            return None
        return {"changed": changed, "removed": removed}


def _same(old: Optional[JobRecord], new: JobRecord) -> bool:
    if old is None:
        return False
    return old.state == new.state and dict(vars(old), log_bytes=0) == dict(vars(new), log_bytes=0)
