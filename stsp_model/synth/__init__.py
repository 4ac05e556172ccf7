"""Synthetic children: bodies moved by motion capture, rendered with exact ground truth."""
