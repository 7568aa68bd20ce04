DELETE FROM message WHERE id IN (SELECT value FROM json_each(?1)) AND (lease IS NULL OR lease_until_ms <= ?2)
RETURNING id
