DELETE FROM requests WHERE id IN (SELECT id FROM requests WHERE asked_ms < :before_ms LIMIT :limit)
