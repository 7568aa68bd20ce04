"""The ledger: every schedule, occurrence and run of every engine."""
