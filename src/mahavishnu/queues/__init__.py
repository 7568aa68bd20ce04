"""Durable queues: the provider contract, the portable queue, and one file per provider."""
