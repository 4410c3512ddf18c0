"""The closed world that nano learns: its words, its sentences and what is kept for testing."""
