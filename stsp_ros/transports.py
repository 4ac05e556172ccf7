"""Fast DDS's profile for images, and the environment that puts a process on one."""

from __future__ import annotations

from pathlib import Path

PROFILE = Path(__file__).with_name("fastdds.xml")
# Jazzy and before know the first of these names, Kilted and later the second.
_VARIABLES = ("FASTRTPS_DEFAULT_PROFILES_FILE", "FASTDDS_DEFAULT_PROFILES_FILE")


def profile_environment(profile: Path = PROFILE) -> dict[str, str]:
    """Environment variables for a process of its own. Other middlewares ignore them."""
    return dict.fromkeys(_VARIABLES, str(profile.resolve()))
