SELECT min(at_ms) FROM (
    SELECT (
        SELECT min(due_ms) FROM message WHERE queue = ?1 AND priority = level.column1 AND lease IS NULL
    ) AS at_ms
    FROM (VALUES (9), (8), (7), (6), (5), (4), (3), (2), (1), (0)) AS level
    UNION ALL
    SELECT min(lease_until_ms) FROM message WHERE queue = ?1 AND lease IS NOT NULL
)
