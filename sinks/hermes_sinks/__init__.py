"""The sinks that come with Hermes, each found by its entry point like anybody's."""
