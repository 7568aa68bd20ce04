-- ?4: due time, or null to keep it; ?5: new body, or null to keep it; ?6: 1 for a delivery not to be counted.
UPDATE message SET
    lease = NULL,
    lease_until_ms = NULL,
    due_ms = coalesce(?4, due_ms),
    deliveries = CASE WHEN ?5 IS NULL THEN deliveries - ?6 ELSE 0 END,
    body = coalesce(?5, body)
WHERE seq = ?1 AND lease = ?2 AND lease_until_ms > ?3
