"""Small files of claims."""

from pathlib import Path
from typing import Any


def claims_of(experiment: Path, expected: float, row: str = "LMIM") -> dict[str, Any]:
    """A claims file with two claims, C1 and C2, on the accuracy of a row at seeds 0 and 1.

    The published results lack its runs.
    """
    claims = [
        {
            "id": f"C{number}",
            "claim": "It has this accuracy.",
            "scale": "smoke",
            "check": {"kind": "endpoint", "results": "mini", "row": row, "endpoint": "Avg"},
            "expected": expected,
            "tolerance": {"published": 0.1, "rerun": 100, "why": "any accuracy"},
            "reproduce": {"experiment": str(experiment), "seeds": [number - 1]},
            "cost": {"minutes": 1, "clock": "one core", "memory_gb": 1, "disk_gb": 1},
        }
        for number in (1, 2)
    ]
    return {"claims": claims}
