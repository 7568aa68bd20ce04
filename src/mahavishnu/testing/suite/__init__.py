"""The parts of the provider contract suite; see `mahavishnu.testing.provider_suite`."""
