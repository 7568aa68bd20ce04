SELECT queue, sum(lease_until_ms > ?1), sum(lease_until_ms <= ?1), min(CASE WHEN lease_until_ms <= ?1 THEN due_ms END)
FROM message WHERE lease IS NOT NULL GROUP BY queue
