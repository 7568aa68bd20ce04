DELETE FROM runs
WHERE rowid IN (
    SELECT rowid FROM runs WHERE at_ms < :before_ms AND state >= 10 AND ended_ms < :before_ms ORDER BY at_ms LIMIT :limit
)
