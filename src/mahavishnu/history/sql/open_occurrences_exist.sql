SELECT EXISTS (SELECT 1 FROM occurrences WHERE state = 'claimed' OR state = 'held')
