"""Scoring: of the network and of any other method's predictions, by one code."""
