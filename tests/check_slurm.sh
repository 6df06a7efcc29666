#!/bin/sh
# The scripts that plans of mde_lab and dagan_lab bring, and those of examples/cluster, under a Slurm of one machine that is started here (Debian:
# slurm-wlm) and ended again: a run that fails cancels the steps after it, a second submission makes only what is missing,
# with the bytes of one process, and a run that is told to end goes on from its checkpoint. Skipped without Slurm, and by
# others than root.
#   SLURM_PLUGINS   folder of Slurm's plugins, if it is not the usual one
# Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
CC=${CC:-cc}
root=$(pwd)
if ! command -v slurmctld > /dev/null || ! command -v slurmd > /dev/null || [ "$(id -u)" -ne 0 ]; then
    echo "skip slurm: slurmctld and slurmd are not installed, or this is not root"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi
. tests/try.sh
. tests/cluster.sh
controller=
node=
trap '[ -z "$node" ] || kill $node; [ -z "$controller" ] || kill $controller; wait; rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM

# until_so COMMAND...: tries once a second, for ten minutes at most
until_so() {
    for _ in $(seq 600); do
        "$@" > "$work/seen" 2>&1 && return 0
        sleep 1
    done
    squeue
    tail -n 5 "$work"/*.log
    return 1
}

host=$(hostname -s)
cat > "$work/slurm.conf" <<END
ClusterName=check
SlurmctldHost=$host(127.0.0.1)
SlurmctldPort=16917
SlurmdPort=16918
AuthType=auth/none
CredType=cred/none
MpiDefault=none
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SlurmUser=root
SlurmdUser=root
StateSaveLocation=$work/state
SlurmdSpoolDir=$work/spool
SlurmctldPidFile=$work/controller.pid
SlurmdPidFile=$work/node.pid
SlurmctldLogFile=$work/controller.log
SlurmdLogFile=$work/node.log
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
SelectType=select/cons_tres
SelectTypeParameters=CR_Core
ReturnToService=2
GresTypes=gpu
SlurmdParameters=config_overrides
NodeName=$host NodeAddr=127.0.0.1 CPUs=8 Gres=gpu:1 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
# As many processors as a task of examples/cluster asks for, and a GPU that nothing uses.
echo "Name=gpu File=/dev/null" > "$work/gres.conf"
[ -z "$SLURM_PLUGINS" ] || echo "PluginDir=$SLURM_PLUGINS" >> "$work/slurm.conf"
export SLURM_CONF="$work/slurm.conf"
mkdir "$work/state" "$work/spool"
slurmctld -D > "$work/controller.out" 2>&1 &
controller=$!
slurmd -D -d "$(command -v slurmstepd)" > "$work/node.out" 2>&1 &
node=$!
node_is_idle() { sinfo -h -o %T | grep -qx idle; }
for _ in $(seq 60); do
    node_is_idle && break
    sleep 1
done
if ! node_is_idle; then
    echo "skip slurm: its daemons do not start here: $(tail -n 1 "$work/controller.out" "$work/node.out" | tr '\n' ' ')"
    echo "0 passed, 0 failed, 1 skipped"
    exit 0
fi

cluster_commands | grep sbatch > "$work/commands"
make_cluster_study "$work/study"
lab=$work/mde_lab
try mde_lab_builds $CC -O1 "$root/examples/mde_lab.c" -o "$lab" -lm
small="--layers 1 --width 16 --heads 2 --context 16 --batch 4 --proxies 6 --validation-tokens 300 --questions 12 --quiet"
printf '#!/bin/sh\n[ "$SLURM_ARRAY_TASK_ID" != 3 ] && exec "%s" "$@"\n' "$lab" > "$work/failing"
chmod +x "$work/failing"
cd "$work" || exit 1

queue_is_empty() { [ -z "$(squeue -h)" ]; }
# submit LAB: waits until all is done; the last line is about the steps after the runs
submit() {
    LAB=$1 sh runs/slurm.sbatch -o "$work/%j.log" > "$work/submitted" && until_so queue_is_empty
}
try a_plan_brings_a_script "$lab" plan runs $small --tokens 6000
try runs_are_submitted submit "$work/failing"
steps=$(awk '{ print $NF }' "$work/submitted")
is_cancelled() { scontrol show job "$steps" | grep -q "JobState=CANCELLED Reason=DependencyNeverSatisfied"; }
try a_run_that_fails_cancels_the_steps_after_it is_cancelled
all_but_one() { [ "$(ls runs/runs | grep -c 'safetensors$')" -eq 13 ] && [ ! -e runs/fit.json ]; }
try the_other_runs_are_made all_but_one
(cd runs/runs && cksum ./*.safetensors) > before
try runs_are_submitted_again submit "$lab"
stay() { (cd runs/runs && cksum ./*.safetensors) | grep -v best- > after; [ "$(grep -c -x -F -f before after)" -eq 13 ]; }
try what_was_there_stays stay
mkdir alone && cd alone || exit 1
try one_process_makes_the_same "$lab" run runs $small --tokens 6000
cd ..
same() {
    for file in runs/mixture.json runs/verify.csv runs/losses.npy runs/runs/*.safetensors; do
        cmp "$file" "alone/$file" || return 1
    done
}
try the_bytes_are_those_of_one_process same

# The seeds of dagan_lab, by the script of the same writer.
try dagan_lab_builds $CC -O1 "$root/examples/dagan_lab.c" -o "$work/dagan_lab" -lm
try a_plan_of_seeds "$work/dagan_lab" plan --seeds 2 --preset quick --steps 2 --classifier-steps 2 --episodes 2 --runs 1 \
    --size 8 --max-classes 10 --out seeds --quiet
submit_seeds() {
    LAB=$work/dagan_lab sh seeds/slurm.sbatch -o "$work/%j.log" > "$work/submitted" && until_so queue_is_empty
}
try seeds_are_submitted submit_seeds
try seeds_are_joined grep -q '<td>2 of 2</td>' seeds/seeds.html

# The page of examples/cluster: its commands for Slurm in their order, and the same by make.
cd study || exit 1
printf 'run,code,web,books\n' > ratios.csv
for i in 1 2 3 4 5 6 7 8; do echo "$i 0.$i" | awk '{ print "next" $1 "," $2 "," (1 - $2) / 4 "," 3 * (1 - $2) / 4 }'; done >> ratios.csv
cp -r . ../alone_study
try the_page_has_commands_for_slurm test "$(wc -l < "$work/commands")" -eq 2
while IFS= read -r command; do
    try "submits_$(printf '%s\n' "$command" | tr -c 'A-Za-z0-9\n' '_')" sh -c "$command < /dev/null"
    try which_is_done until_so queue_is_empty
done < "$work/commands"
(find runs logprobs -type f -exec cksum {} + | sort) > "$work/by_slurm"
cd ../alone_study || exit 1
try make_makes_the_same_study make -f cluster/Makefile train export TRAIN=./train.sh
(find runs logprobs -type f -exec cksum {} + | sort) > "$work/by_make"
try with_the_same_bytes cmp "$work/by_slurm" "$work/by_make"
cd ..

# A run is stopped as soon as it has written a checkpoint. It may wait for two minutes then: so Slurm has it.
"$lab" plan long $small --tokens 1200000 > log 2>&1
job=$(LAB=$lab sbatch --parsable --array=0-0 -o "$work/long.log" long/slurm.sbatch)
has_checkpoint() { ls long/runs/*.checkpoint; }
try a_long_run_has_a_checkpoint until_so has_checkpoint
scancel --batch --signal=TERM "${job}_0"
is_requeued() { scontrol show job "${job}_0" | grep -q "Restarts=1"; }
try it_is_queued_again_when_told_to_end until_so is_requeued
try it_goes_on_to_its_end until_so queue_is_empty
is_made() { ls long/runs/*.safetensors && ! has_checkpoint; }
try it_is_made is_made

finish
