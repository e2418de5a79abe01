"""One thread for every test: the suite shares its cores, and spinning threads would fight over them."""

import os

os.environ["OMP_NUM_THREADS"] = "1"
