SELECT id, queue, workflow, reason, died_ms, priority, detail, body FROM dead_letter
WHERE (?1 IS NULL OR queue = ?1)
    AND (?2 IS NULL OR workflow = ?2)
    AND (?3 IS NULL OR reason = ?3)
    AND (?4 IS NULL OR died_ms < ?4)
ORDER BY died_ms, seq LIMIT ?5
