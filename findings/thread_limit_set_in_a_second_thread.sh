#!/usr/bin/env bash
# A limit that threadpoolctl sets in a second thread has no effect from 3.8.0 on, without an error.
#
# OpenBLAS with pthreads has one number of threads for the whole process, and up to threadpoolctl
# 3.7.0 any thread could set it. In 3.8.0 the first thread that sets a limit controls the number,
# and limits of all others are ignored. Control ends with the `with` block of that thread. If it
# undid its limit by `restore_original_limits()`, control never ends: from then on a `with` block in
# a worker runs its matrix products on all processors. That costs time if each worker was to have
# one, and changes the last bits of the products, since OpenBLAS cuts them by the number of threads.
#
# Seen with NumPy 2.4.2 and its OpenBLAS on Linux, Python 3.11, two processors:
#
#     threadpoolctl 3.7.0: after a with block: 1 in a second thread; after restore: 1
#     threadpoolctl 3.8.0: after a with block: 1 in a second thread; after restore: 2
set -euo pipefail

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
cat > "$folder/show.py" <<'PYTHON'
from importlib.metadata import version
from threading import Thread

import numpy  # loads OpenBLAS
from threadpoolctl import ThreadpoolController

controller = ThreadpoolController().select(user_api="blas")
with controller.limit(limits=2):
    pass
assert controller.info()[0]["threading_layer"] == "pthreads", controller.info()


def in_a_second_thread():
    found = []

    def work():
        with controller.limit(limits=1):
            found.append(controller.info()[0]["num_threads"])

    thread = Thread(target=work)
    thread.start()
    thread.join()
    return found[0]


after_block = in_a_second_thread()
controller.limit(limits=2).restore_original_limits()
after_restore = in_a_second_thread()
print(
    f"threadpoolctl {version('threadpoolctl')}: after a with block: {after_block} in a second "
    f"thread; after restore: {after_restore}"
)
PYTHON
for release in 3.7.0 3.8.0; do
  python3 -m venv "$folder/$release"
  "$folder/$release/bin/pip" install --quiet numpy==2.4.2 "threadpoolctl==$release"
  OPENBLAS_NUM_THREADS=2 "$folder/$release/bin/python" "$folder/show.py"
done | tee "$folder/seen"
diff "$folder/seen" - <<'SEEN'
threadpoolctl 3.7.0: after a with block: 1 in a second thread; after restore: 1
threadpoolctl 3.8.0: after a with block: 1 in a second thread; after restore: 2
SEEN
echo "as described"
