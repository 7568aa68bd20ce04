DELETE FROM occurrences
WHERE (schedule_id, fire_us) IN (
    SELECT schedule_id, fire_us
    FROM occurrences
    WHERE decided_us < :before_us AND state IN ('dispatched', 'skipped')
    ORDER BY decided_us
    LIMIT :limit
)
