"""Bags run through the estimator offline: skeletons, scores, a report, and how two differ."""
