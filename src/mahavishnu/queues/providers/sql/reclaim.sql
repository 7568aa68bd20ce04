-- Messages whose lease ran out are due again, at their old place.
UPDATE message SET lease = NULL, lease_until_ms = NULL
WHERE queue = ?1 AND lease IS NOT NULL AND lease_until_ms <= ?2
