"""Texts to learn from: generators whose exact probabilities, and so the lowest loss, are known."""
