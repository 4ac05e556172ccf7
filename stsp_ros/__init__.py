"""The ROS 2 side of stsp: node, messages, markers, player and demo; no pose is computed here."""
