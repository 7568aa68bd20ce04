SELECT id, kind, started_ms, seen_ms, details FROM processes WHERE seen_ms >= :since_ms ORDER BY started_ms, id
