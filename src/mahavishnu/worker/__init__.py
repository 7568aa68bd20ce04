"""Receive jobs, run them, settle them, and stop well."""
