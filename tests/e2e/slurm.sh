#!/bin/bash
# slurm.sh - compute targets of kind slurm, on a real cluster: slurmctld and four slurmd on this machine
. "$(dirname "$0")/lib.sh"
. "$SOURCE/tests/e2e/slurm.lib.sh"
trap 'ended=$?; slurm_down; (exit $ended); at_end' EXIT

refused=$(slurm_refused)
if [ -n "$refused" ]; then
    skip "a cluster of Slurm" "$refused"
    exit 0
fi
slurm_conf
slurm_up
equal "a cluster of four nodes starts" 0 $?
id=$(printf '#!/bin/sh\nsrun -N4 -n4 printenv SLURMD_NODENAME\n' | sbatch --parsable -N4 -o "$T/first.out")
check "a job of four nodes ends well" until_true 30 job_in "$id" COMPLETED
equal "...and ran once on each" "n1 n2 n3 n4 " "$(sort "$T/first.out" | tr '\n' ' ')"
slurm_down
equal "nothing of the cluster is left" "" "$(slurm_job_pids)"
