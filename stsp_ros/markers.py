"""Skeletons as messages of visualization_msgs: stsp_model.markers with ROS's classes."""

from __future__ import annotations

from functools import partial

from stsp_model import markers
from stsp_ros.conversions import TYPES

skeleton_markers = partial(markers.skeleton_markers, TYPES)
delete_all_markers = partial(markers.delete_all_markers, TYPES)
