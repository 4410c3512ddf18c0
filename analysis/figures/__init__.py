"""Record in, plotly or matplotlib figure out, and nothing else."""
