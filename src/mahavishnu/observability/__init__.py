"""Events, logs, and later metrics and traces."""
