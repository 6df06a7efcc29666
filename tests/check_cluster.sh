#!/bin/sh
# The page of examples/cluster: its commands as they stand there, with 3 domains and 8 proxies, a trainer and a scorer that
# stand in for PyTorch. Those for Slurm are run by check_slurm.sh; a stand-in of kubectl runs the pods of kubernetes.yaml as the
# file describes them. Ends with "N passed, N failed[, N skipped]".
cd "$(dirname "$0")/.." || exit 1
LC_ALL=C
export LC_ALL
CC=${CC:-cc}
. tests/try.sh
. tests/program.sh
. tests/cluster.sh

command -v python3 > /dev/null 2>&1 || { skip the_page "no python3, in which the scorer's stand-in is written"; finish; }

mkdir -p "$work/bin"
try mix_optimize_builds build_by_its_command mix_optimize "$work/bin/mix_optimize"
cluster_commands > "$work/commands"
try mix_builds build_by_its_command mix "$work/bin/mix"
try mix_has_help_version_and_exit_codes has_help_version_and_exit_codes mix "$work/bin/mix"
make_cluster_study "$work/study"
cd "$work/study" || exit 1
export EXPORT="python3 export_logprobs.py"
PATH=$work/bin:$PATH
unset SLURM_ARRAY_TASK_ID PBS_ARRAY_INDEX JOB_COMPLETION_INDEX SGE_TASK_ID TRAIN SHARDS

# kubectl apply -f FILE: the pods of an indexed job as it starts them: the container's command in its folder with its
# environment and the index, some at a time, and a failed one again until backoffLimit.
cat > "$work/kubectl.py" <<'END'
import concurrent.futures, os, subprocess, sys, yaml
assert sys.argv[1:3] == ["apply", "-f"], sys.argv
spec = yaml.safe_load(open(sys.argv[3]))["spec"]
pod = spec["template"]["spec"]
task, = pod["containers"]
assert spec["completionMode"] == "Indexed" and pod["restartPolicy"] == "Never"
claims = {v["name"] for v in pod["volumes"] if "persistentVolumeClaim" in v}
assert [m["mountPath"] for m in task["volumeMounts"] if m["name"] in claims] == [task["workingDir"]]
def run(index):
    environment = {"PATH": os.environ["PATH"], "JOB_COMPLETION_INDEX": str(index)}
    environment.update((e["name"], e["value"]) for e in task["env"])
    return subprocess.run(task["command"] + task["args"], env=environment).returncode
failures, left = 0, list(range(spec["completions"]))
while left:
    with concurrent.futures.ThreadPoolExecutor(spec["parallelism"]) as pool:
        codes = list(pool.map(run, left))
    left = [index for index, code in zip(left, codes) if code]
    failures += len(left)
    assert failures <= spec["backoffLimit"], f"{failures} pods failed"
print(*task["args"], failures, file=open("failed", "a"))
END
yaml=$(python_with yaml)
printf '#!/bin/sh\nexec "%s" "%s" "$@"\n' "$yaml" "$work/kubectl.py" > "$work/bin/kubectl"
chmod +x "$work/bin/kubectl"

try the_page_has_commands test "$(wc -l < "$work/commands")" -eq 12
while IFS= read -r command; do
    name=$(printf '%s\n' "$command" | tr -c 'A-Za-z0-9\n' '_' | cut -c 1-60)
    case $command in
        *sbatch*) skip "$name" "is for Slurm; check_slurm.sh runs it" ;;
        kubectl*) if [ -n "$yaml" ]; then try "runs_$name" sh -c "$command"
                  else skip "$name" "no Python 3 has yaml (Debian: python3-yaml)"; fi ;;
        *) try "runs_$name" sh -c "$command < /dev/null" ;;
    esac
done < "$work/commands"
try every_run_is_trained_once sh -c '[ "$(sort -u trained | wc -l)" -eq 19 ] && [ "$(wc -l < trained)" -eq 19 ]'
try experts_have_one_domain grep -qx 'expert-web web=1' trained
try every_expert_scores_every_text_once sh -c '[ "$(sort -u exported | wc -l)" -eq 9 ] && [ "$(wc -l < exported)" -eq 9 ]'
try proxies_have_the_weights_of_their_row sh -c '
    awk -F, "NR == 3 { print \$1 \" code=\" \$2 \",web=\" \$3 \",books=\" \$4 }" ratios.csv | grep -qxf - trained'
# By the names of the columns, which need not have the order of the table.
by_name() { awk -F, -v w="$1" 'NR == 1 { for (i = 2; i <= NF; i++) n[i] = $i; next }
    w == "" || $1 ~ w { for (i = 2; i <= NF; i++) print substr($1, length(w) + 1), n[i], $i }' "$2" | sort; }
by_name second- ratios.csv > "$work/taken"
by_name "" result/next_runs.csv > "$work/proposed"
try the_second_round_is_what_was_proposed cmp "$work/taken" "$work/proposed"
try its_columns_are_those_of_the_table sh -c '[ "$(head -n 1 result/next_runs.csv)" = "$(head -n 1 ratios.csv)" ]'
cp ratios.csv "$work/ratios.csv"
awk -F, '{ print $1 "," $4 "," $2 "," $3 }' result/next_runs.csv > moved.csv
sh cluster/task.sh add moved.csv third- > /dev/null
by_name third- ratios.csv > "$work/taken"
mv "$work/ratios.csv" ratios.csv
try columns_may_stand_in_another_order cmp "$work/taken" "$work/proposed"
try the_table_has_a_row_a_proxy sh -c '[ "$(wc -l < losses.csv)" -eq 17 ]'
try there_is_a_mixture_of_each_round test -s result/mixture.json -a -s second/mixture.json
try the_second_has_the_runs_of_both grep -q '"runs": 16' second/report.json
try and_runs_to_make_next sh -c '[ "$(wc -l < result/next_runs.csv)" -eq 9 ]'
# The experts alone, with the bootstrap's intervals and without.
mix logprobs --json > "$work/with.json"
mix logprobs --no-intervals --memory 1 --json > "$work/without.json"
found() { grep -v interval_90\" "$1" | grep -v '"intervals"'; sed -n 's/, "weight_interval_90": .*//p' "$1"; }
found "$work/with.json" > "$work/found"
found "$work/without.json" > "$work/found_alone"
try the_minimum_alone_is_the_same cmp "$work/found" "$work/found_alone"
try and_has_no_intervals sh -c "[ \$(grep -c 'interval_90\": \[null, null\]' '$work/without.json') -eq 4 ] &&
    ! grep null '$work/with.json'"

# The same tasks by the variables of schedulers; what is there is not made again.
(find runs logprobs -type f -exec cksum {} + | sort) > "$work/before"
try done_tasks_are_skipped sh -c 'TRAIN=false SLURM_ARRAY_TASK_ID=4 sh cluster/slurm.sbatch train &&
    EXPORT=false JOB_COMPLETION_INDEX=2 sh cluster/task.sh export'
rm -r runs/expert-web logprobs/*/books.npy
export TRAIN=./train.sh
try a_task_of_slurm env SLURM_ARRAY_TASK_ID=1 sh cluster/slurm.sbatch train
try a_shard_of_a_job_of_kubernetes env SHARDS=2 JOB_COMPLETION_INDEX=2 sh cluster/task.sh export
try has_its_share_of_the_texts sh -c '[ "$(ls logprobs/*/books.npy | wc -l)" -eq 2 ]'
try a_task_of_grid_engine_is_counted_from_1 env SHARDS=2 SGE_TASK_ID=6 sh cluster/task.sh export
(find runs logprobs -type f -exec cksum {} + | sort) > "$work/after"
try make_the_same_files cmp "$work/before" "$work/after"

# kubernetes.yaml has the fields and types that a client of Kubernetes knows: what it reads and writes again is the same.
cat > "$work/typed.py" <<'END'
import json, sys, yaml
from kubernetes import client
job = yaml.safe_load(open(sys.argv[1]))
class Reply:
    data = json.dumps(job)
api = client.ApiClient()
read = api.sanitize_for_serialization(api.deserialize(Reply, "V1Job"))
assert (job["apiVersion"], job["kind"]) == ("batch/v1", "Job"), "is no Job of batch/v1"
assert read == job, f"is read as {read}"
END
typed=$(python_with "kubernetes, yaml")
if [ -n "$typed" ]; then
    try kubernetes_yaml_is_a_job_to_a_client "$typed" "$work/typed.py" cluster/kubernetes.yaml
    # changed EXPRESSION: the file with one line changed by sed is refused
    changed() {
        sed "$1" cluster/kubernetes.yaml > "$work/changed.yaml"
        ! cmp -s "$work/changed.yaml" cluster/kubernetes.yaml && ! "$typed" "$work/typed.py" "$work/changed.yaml"
    }
    try no_unknown_field_is changed 's/backoffLimit:/backOffLimit:/'
    try no_unknown_field_of_a_volume_is changed 's/claimName:/claim:/'
    try no_number_as_a_text_is changed 's/completions: 3/completions: "3"/'
    try no_text_as_a_list_is changed 's/command: .*/command: sh cluster\/task.sh/'
    try no_container_without_a_name_is changed 's/- name: task/- tty: true/'
else
    skip kubernetes_yaml_is_a_job_to_a_client "no Python 3 has kubernetes and yaml (Debian: python3-kubernetes)"
fi

# Pods that fail are tried again: a node is lost before a model is written, a pod ends badly after that, one between two texts.
if [ -n "$yaml" ]; then
    cp -r . "$work/pods"
    cp train.sh "$work/trainer"
    cp export_logprobs.py "$work/scorer"
    cd "$work/pods" || exit 1
    rm -r runs logprobs failed
    sed 's/completions: 3/completions: 19/; s/args: .*/args: ["train"]/' cluster/kubernetes.yaml > train.yaml
    cat > train.sh <<'END'
#!/bin/sh
[ "$1" != expert-web ] || [ -e lost ] || { : > lost; exit 137; }
sh ../trainer "$@"
[ "$1" != next1 ] || [ -e late ] || { : > late; exit 137; }
END
    { echo 'import os, sys'
      echo 'if "web=" in sys.argv[3] and os.path.exists("logprobs/books/web.npy") and not os.path.exists("cut"):'
      echo '    open("cut", "w").close()'
      echo '    sys.exit(137)'
      cat ../scorer; } > export_logprobs.py
    try pods_train kubectl apply -f train.yaml
    try two_of_which_failed_once grep -qx "train 2" failed
    try pods_export kubectl apply -f cluster/kubernetes.yaml
    try one_of_which_failed_once grep -qx "export 1" failed
    (find runs logprobs -type f -exec cksum {} + | sort) > "$work/after"
    try pods_leave_the_bytes_of_one_process cmp "$work/before" "$work/after"
    cd ../study || exit 1
else
    skip pods_that_fail "no Python 3 has yaml (Debian: python3-yaml)"
fi

# refused NAME EXPECTED COMMAND...: one line that says it
refused() {
    name=$1
    expected=$2
    shift 2
    "$@" > "$work/stdout" 2> "$work/stderr"
    code=$?
    grep -q -- "$expected" "$work/stderr" && [ "$(wc -l < "$work/stderr")" -eq 1 ] && [ $code -ne 0 ]
    try "$name" test $? -eq 0
}
refused no_number 'is no number of a task' sh cluster/task.sh train
refused a_task_too_many 'have fewer rows' sh cluster/task.sh train 19
refused an_expert_too_many 'there are 3' sh cluster/task.sh export 3
refused another_stage 'expected train, export or add' sh cluster/task.sh fit 0
cp ratios.csv "$work/ratios.csv"
refused the_same_runs_twice 'has second-next[0-9]*, which is in ratios.csv' sh cluster/task.sh add result/next_runs.csv second-
sed '1s/web/wiki/' result/next_runs.csv > other.csv
refused runs_of_other_domains 'has no column web of ratios.csv' sh cluster/task.sh add other.csv third-
try and_the_table_stays cmp ratios.csv "$work/ratios.csv"
rm -r runs/expert-code
refused an_expert_that_is_not_trained 'runs/expert-code: is not trained' sh cluster/task.sh export 0
refused no_trainer 'names the trainer' env -u TRAIN sh cluster/task.sh train 0
rm runs/next2/losses.csv
try a_missing_proxy_is_an_error sh -c 'rm losses.csv && ! make -f cluster/Makefile losses.csv TRAIN=false && [ ! -e losses.csv ]'
finish
