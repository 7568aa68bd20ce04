DELETE FROM message WHERE seq = ?1 AND lease = ?2 AND lease_until_ms > ?3
