SELECT 1 FROM occurrences WHERE state = 'claimed' AND lease_until_us <= :now_us LIMIT 1
