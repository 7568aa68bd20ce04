SELECT queue, sum(due_ms <= ?1), sum(due_ms > ?1), min(CASE WHEN due_ms <= ?1 THEN due_ms END)
FROM message WHERE lease IS NULL GROUP BY queue
