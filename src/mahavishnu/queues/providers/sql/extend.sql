UPDATE message SET lease_until_ms = ?4 WHERE seq = ?1 AND lease = ?2 AND lease_until_ms > ?3
