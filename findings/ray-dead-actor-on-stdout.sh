#!/bin/sh
# Ray 2.60.0 prints a dead actor's notice on the driver's stdout, although logging to the driver is off.
#
# Seen: after `ray.init(log_to_driver=False, logging_level="ERROR")`, an actor that is killed with SIGKILL makes Ray write lines that begin
#   with "(raylet)" to the driver's standard output, not to standard error. A program whose stdout is JSON gets broken output.
# One would have guessed: `log_to_driver=False` keeps the driver's streams free of Ray's lines, and notices go to stderr.
# Source: ray/_private/worker.py. Error messages that the cluster publishes are printed by a thread of their own, which does not ask for
#   log_to_driver.
# For deocclude: `run --engine ray` turns those messages off (scale/cluster.py); a test kills a worker and reads both streams.
set -eu
folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install --quiet ray==2.60.0
cat > "$folder/driver.py" <<'PYTHON'
import logging
import os
import signal
import time

import ray

ray.init(num_cpus=1, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)


@ray.remote(num_cpus=1)
class Worker:
    def pid(self):
        return os.getpid()


worker = Worker.remote()
os.kill(ray.get(worker.pid.remote()), signal.SIGKILL)
try:
    ray.get(worker.pid.remote(), timeout=60)
except ray.exceptions.RayActorError:
    pass
time.sleep(8)  # the notice comes a moment later
ray.shutdown()
PYTHON
RAY_USAGE_STATS_ENABLED=0 "$folder/venv/bin/python" "$folder/driver.py" > "$folder/stdout" 2> "$folder/stderr"
echo "lines on stdout: $(grep -c . "$folder/stdout" || true), of raylet: $(grep -c raylet "$folder/stdout" || true)"
echo "lines of raylet on stderr: $(grep -c raylet "$folder/stderr" || true)"
head -c 300 "$folder/stdout"
grep -q "(raylet)" "$folder/stdout"
