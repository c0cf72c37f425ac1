"""The method. Importing this package also sets how idle threads wait, so import it before PyTorch.

OpenMP threads spin while they wait for work. Where several processes share the cores, the spinning threads of one
process take the time of the others: two commands at once then take as long as one after the other, or longer. A passive
wait costs a process that runs alone nothing that can be measured (`python run.py bench sharing`). OpenMP reads the
variable once, when PyTorch loads it; child processes inherit it. A value that the user has set is kept.
"""

import os

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
