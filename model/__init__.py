"""What the model is, how it speaks and how it learns; knows nothing of the rooms above it."""
