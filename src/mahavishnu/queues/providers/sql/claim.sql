-- One index search per priority, from the most urgent, so that messages not due yet are never walked over.
UPDATE message SET lease = ?4, lease_until_ms = ?5, deliveries = deliveries + 1
WHERE seq IN (
    SELECT waiting.seq
    FROM (VALUES (9), (8), (7), (6), (5), (4), (3), (2), (1), (0)) AS level
    CROSS JOIN message AS waiting INDEXED BY message_ready
    WHERE waiting.queue = ?1 AND waiting.priority = level.column1
        AND waiting.lease IS NULL AND waiting.due_ms <= ?2
    LIMIT ?3
)
RETURNING -priority, due_ms, seq, id, body, deliveries
