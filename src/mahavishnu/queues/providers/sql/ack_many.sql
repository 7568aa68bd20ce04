-- A fetch gives all its messages one token, so a batch of them goes in one statement.
DELETE FROM message WHERE lease = ?1 AND lease_until_ms > ?2 AND seq IN (SELECT value FROM json_each(?3))
