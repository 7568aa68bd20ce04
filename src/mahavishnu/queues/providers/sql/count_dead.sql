SELECT queue, count(*) FROM dead_letter GROUP BY queue
