DELETE FROM processes WHERE id IN (SELECT id FROM processes WHERE seen_ms < :before_ms LIMIT :limit)
