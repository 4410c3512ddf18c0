"""Tasks run over many clips, and the reports that a model card is written from."""
