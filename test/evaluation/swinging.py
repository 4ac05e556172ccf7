"""Motion capture for tests: a figure in CMU's skeleton that walks and swings its limbs."""

import numpy as np

# Name, offset from the parent in cm, children: enough of CMU's skeleton for our joints.
TREE = (
    "hip",
    (0, 90, 0),
    [
        *(
            (
                f"{s}Thigh",
                (9 * x, 0, 0),
                [(f"{s}Shin", (0, -38, 0), [(f"{s}Foot", (0, -40, 0), [])])],
            )
            for s, x in (("l", 1), ("r", -1))
        ),
        ("neck", (0, 50, 0), []),
        *(
            (
                f"{s}Shldr",
                (16 * x, 46, 0),
                [(f"{s}ForeArm", (28 * x, 0, 0), [(f"{s}Hand", (26 * x, 0, 0), [])])],
            )
            for s, x in (("l", 1), ("r", -1))
        ),
    ],
)


def bvh_text(frames=40, phase=0.0):
    """A figure that walks on and swings its arms and legs, 60 Hz."""
    turning = []

    def joint(node, depth):
        name, (x, y, z), children = node
        kind = "ROOT" if depth == 0 else "JOINT"
        place = "Xposition Yposition Zposition " if depth == 0 else ""
        turning.append(name)
        inner = "".join(joint(child, depth + 1) for child in children)
        end = "" if children else "End Site { OFFSET 0 -1 0 }\n"
        channels = f"CHANNELS {6 if depth == 0 else 3} {place}Zrotation Xrotation Yrotation\n"
        return f"{kind} {name} {{\nOFFSET {x} {y} {z}\n{channels}{inner}{end}}}\n"

    head = joint(TREE, 0)
    rows = []
    for t in range(frames):
        swing = 30 * np.sin(2 * np.pi * t / 30 + phase)
        row = [0, 90, 2.0 * t]
        for name in turning:
            limb = name[1:] in ("Thigh", "Shldr")
            sign = 1 if (name[0] == "l") == (name[1:] == "Thigh") else -1
            row += [0, sign * swing if limb else 0, 0]
        rows.append(" ".join(f"{value:.6f}" for value in row))
    return (
        f"HIERARCHY\n{head}MOTION\nFrames: {frames}\nFrame Time: {1 / 60:.9f}\n"
        + "\n".join(rows)
        + "\n"
    )
