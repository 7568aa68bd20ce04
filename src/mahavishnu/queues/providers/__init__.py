"""One file per provider; only `mahavishnu.queues.registry` may import them."""
