"""Keys and values of decoded positions, stored so that each step computes one position alone."""

from torch import Tensor


class KVCache:
    """Keys and values of the positions decoded so far, for one layer; one row for each text."""

    def __init__(self, like: Tensor, rows: int, length: int) -> None:
        """An empty cache for `rows` texts of up to `length` positions.

        like: (_, _, 1, H, K); its heads, features per head, type and device are used."""
        _, _, _, heads, features = like.shape

        def allocate() -> Tensor:
            # in memory head by head, in the order in which attention uses it
            return like.new_empty(rows, 1, heads, length, features).permute(0, 3, 1, 2, 4)

        self.keys = allocate()
        self.values = allocate()
        self.filled = 0

    def append(self, keys: Tensor, values: Tensor) -> tuple[Tensor, Tensor]:
        """Add one position (rows, 1, 1, H, K); return all so far (rows, filled, 1, H, K)."""
        self.keys[:, self.filled] = keys[:, 0]
        self.values[:, self.filled] = values[:, 0]
        self.filled += 1
        return self.keys[:, : self.filled], self.values[:, : self.filled]

    def reorder(self, rows: Tensor) -> None:
        """Continue each row from the positions of the row with the given number (rows,)."""
        for stored in (self.keys, self.values):
            stored[:, : self.filled] = stored[rows, : self.filled]


def head_by_head(projected: Tensor) -> Tensor:
    """(B, S, 1, H, K) -> the same values, contiguous for each head.

    It pays for keys and values that many decoding steps use."""
    return projected.permute(0, 2, 3, 1, 4).contiguous().permute(0, 3, 1, 2, 4)
