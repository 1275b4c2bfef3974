"""The exercises of notebook 15."""
