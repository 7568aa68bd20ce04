"""The three engines behind the front door."""
