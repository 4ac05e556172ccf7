"""Scoring: of the network and of any other method's predictions, by one code.

2D joints in still images by the protocol of Leeds Sports Pose (pck.py).
"""
