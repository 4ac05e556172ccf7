"""The topics that go with an image topic, whose remap takes them along; who publishes on them."""

from __future__ import annotations

from rclpy.node import Node


def compressed_topic(node: Node, image: str) -> str:
    """The JPEG or PNG beside the resolved `image`, as image_transport's subscribers look for it."""
    return _own_remap(node, f"{image}/compressed") or f"{node.resolve_topic_name(image)}/compressed"


def camera_info_topic(node: Node, image: str) -> str:
    """The camera_info beside the resolved `image`."""
    folder = str(node.resolve_topic_name(image)).rpartition("/")[0]
    return _own_remap(node, "camera_info") or f"{folder}/camera_info"


def describe_publishers(node: Node, topic: str) -> str:
    """Who publishes on a topic, how reliably, and what; or "none"."""
    return (
        ", ".join(
            f"{publisher.node_namespace.rstrip('/')}/{publisher.node_name} "
            f"{publisher.qos_profile.reliability.name.lower()} {publisher.topic_type}"
            for publisher in node.get_publishers_info_by_topic(topic)
        )
        or "none"
    )


def _own_remap(node: Node, name: str) -> str:
    """What a remap makes of `name` itself; empty without one, or with one to the name it has."""
    topic = str(node.resolve_topic_name(name))
    return "" if topic == node.resolve_topic_name(name, only_expand=True) else topic
