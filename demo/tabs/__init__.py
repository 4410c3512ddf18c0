"""One file per tab of the app."""
