"""The ROS 2 side of stsp: the node, its messages and markers, player and demo. No pose is computed here."""
