#!/bin/sh
# Runs the array of docs/cli.md on Slurm, kills up to five of its jobs, submits these again, and compares all outputs
# byte for byte with those of a single run. Exits with 1 where they differ. Needs sbatch with one node of 4 CPUs
# (configured ones suffice) and deocclude on PATH; WORK is a folder that the node sees.
set -eu
cd "$(dirname "$0")/.."
assets=$PWD/src/deocclude/assets
script=$(sed -n '/^#!\/bin\/sh/,/^```/p' docs/cli.md | sed '/^```/d')  # the documented script itself
cd "${WORK:-$(mktemp -d)}"
mkdir -p photos/below
for number in $(seq 8); do
    cp "$assets/street.jpg" "photos/street$number.jpg"
    cp "$assets/astronaut.jpg" "photos/below/portrait$number.jpg"
done
printf '%s\n' "$script" >deocclude.sbatch
cat deocclude.sbatch

wait_for() { while squeue -h -j "$1" 2>/dev/null | grep -q .; do sleep 1; done; }

deocclude run photos/ -o alone --recursive -j 2 -q
job=$(sbatch --parsable --array=1-20 deocclude.sbatch)
killed=
for _ in 1 2 3 4 5; do  # a job that has just begun; it may have no photos
    until running=$(squeue -h -j "$job" -t R -o %K) && [ -n "$running" ] && [ "$running" != "${killed##*,}" ]; do sleep 0.2; done
    sleep 2
    scancel --signal=KILL --full "${job}_$running" && killed="${killed:+$killed,}$running"
done
wait_for "$job"
left=$(find out -name '*.deoccluded.png' | wc -l)
echo "jobs $killed of the array were killed: $left of 16 outputs"
[ "$left" -lt 16 ] || { echo "FAILS   no killed job had a photo left"; exit 1; }
again=$(sbatch --parsable --array="$killed" deocclude.sbatch)
wait_for "$again"
diff -r alone out
echo "submitted again: $(find out -name '*.deoccluded.png' | wc -l) of 16, each equal to the single run's; no other file"
