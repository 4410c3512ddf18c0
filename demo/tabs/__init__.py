"""One file per tab: its label, its handlers as plain functions, and `build`."""
