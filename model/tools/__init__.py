"""What the assistant can do besides talking: the clock, the weather, a search, another voice."""
