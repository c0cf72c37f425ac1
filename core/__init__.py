"""The method. Import this package before PyTorch: it sets how idle threads wait.

OpenMP threads spin while they wait for work. If several processes share the cores, the spinning
threads of one process slow down the others: two commands at once then take as long as one after
the other, or longer. Passive waiting costs a single process nothing measurable
(`python run.py bench sharing`). OpenMP reads the variable once, when PyTorch is loaded, and child
processes inherit it. A value that the user has set is kept.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
