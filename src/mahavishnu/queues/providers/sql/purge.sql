DELETE FROM message WHERE seq IN (
    SELECT seq FROM message WHERE queue = ?1 AND (lease IS NULL OR lease_until_ms <= ?2) LIMIT ?3
)
