"""The linked view: one HTML, JS and CSS bundle for the app, notebooks and a standalone file."""
