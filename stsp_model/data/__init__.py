"""Readers of data sets in their own published formats: one file per format, one type of item.

Image sets give `ImagePose`, motion sets give `Motion` (both in samples.py); both read lazily.
"""
