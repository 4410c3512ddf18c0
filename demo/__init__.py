"""The app: it shows and asks, and leaves hearing to `model/` and measuring to `analysis/`."""
