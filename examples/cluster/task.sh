#!/bin/sh
# task.sh train|export [N]: one task of a study with models that are trained elsewhere, in the folder of the study. N, from
# 0, is the argument or the number that Slurm, PBS, Kubernetes or (from 1) Grid Engine gives to the element of a job array.
#   domains.csv      domain,tokens: the experts, one a domain
#   ratios.csv       the proxies: a name and a weight for each domain a row, as mix_optimize --suggest writes them
#   texts/NAME.txt   validation texts (or .jsonl)
# train:  runs/expert-DOMAIN, then runs/NAME of ratios.csv, by $TRAIN NAME WEIGHTS FOLDER, WEIGHTS being code=0.25,web=0.75.
#         It leaves the model and, last, losses.csv in the folder: a header and one row, run,LOSS,LOSS.
# export: logprobs/TEXT/DOMAIN.npy of expert N % experts, by $EXPORT (export_logprobs.py), on every SHARDS-th text.
# What is there is not made again.
# task.sh add FILE PREFIX adds the rows of FILE, runs to make next, to ratios.csv: columns by their names, which may stand in
# another order, and PREFIX before the runs' names.
#   TRAIN    the trainer
#   EXPORT   default: python3 export_logprobs.py
#   SHARDS   default 1: a task scores all texts by one expert; more: that many tasks do it
set -eu
stage=${1:-}
fail() { echo "task.sh: $*" >&2; exit 1; }
if [ "$stage" = add ]; then
    awk -F, -v prefix="${3:?a prefix that makes names new is missing}" -v file="$2" '
        FNR == 1 && NR == 1 { columns = split($0, domain); print; next }
        NR == FNR { seen[$1] = 1; print; next }
        FNR == 1 { for (i = 1; i <= NF; i++) at[$i] = i; if (NF != columns) wrong = "has other columns than"; next }
        { $1 = prefix $1; if ($1 in seen) wrong = "has " $1 ", which is in"; row = $1
          for (i = 2; i <= columns; i++) { if (!(domain[i] in at)) wrong = "has no column " domain[i] " of"
                                           row = row "," $at[domain[i]] }
          print row }
        END { if (wrong) { print "task.sh: " file " " wrong " ratios.csv" > "/dev/stderr"; exit 1 } }
    ' ratios.csv "$2" > ratios.part || { rm ratios.part; exit 1; }
    exec mv ratios.part ratios.csv
fi
number=${2:-${SLURM_ARRAY_TASK_ID:-${PBS_ARRAY_INDEX:-${JOB_COMPLETION_INDEX:-}}}}
[ -n "$number" ] || { [ -z "${SGE_TASK_ID:-}" ] || number=$((SGE_TASK_ID - 1)); }
case $number in ''|*[!0-9]*) fail "\"$number\" is no number of a task" ;; esac
[ -s domains.csv ] || fail "domains.csv: is not there"
experts=$(($(grep -c . domains.csv) - 1))
shards=${SHARDS:-1}

domain() { sed -n "$(($1 + 2))s/,.*//p" domains.csv; }

case $stage in
train)
    if [ "$number" -lt "$experts" ]; then
        weights=$(domain "$number")=1
        name=expert-${weights%=1}
    else
        row=$((number - experts + 2))
        name=$(sed -n "${row}s/,.*//p" ratios.csv)
        weights=$(awk -F, -v row="$row" 'NR == 1 { split($0, domain, ",") }
            NR == row { for (i = 2; i <= NF; i++) printf "%s%s=%s", (i > 2 ? "," : ""), domain[i], $i }' ratios.csv)
    fi
    [ -n "$name" ] || fail "task $number: domains.csv and ratios.csv have fewer rows"
    [ ! -s "runs/$name/losses.csv" ] || exit 0
    mkdir -p "runs/$name"
    ${TRAIN:?names the trainer} "$name" "$weights" "runs/$name"
    ;;
export)
    [ "$number" -lt $((experts * shards)) ] || fail "task $number: there are $((experts * shards))"
    expert=$(domain $((number % experts)))
    [ -s "runs/expert-$expert/losses.csv" ] || fail "runs/expert-$expert: is not trained"
    index=0
    for path in texts/*; do
        text=${path##*/}
        text=${text%.*}
        mine=$((index % shards == number / experts))
        index=$((index + 1))
        if [ $mine -eq 0 ] || [ -e "logprobs/$text/$expert.npy" ]; then continue; fi
        part=logprobs.part/$expert      # renamed when it is whole; doc.npy and bytes.npy are the same from every expert
        mkdir -p "$part" "logprobs/$text"
        ${EXPORT:-python3 export_logprobs.py} "$part" --expert "$expert=runs/expert-$expert" --text "$text=$path"
        for file in doc bytes "$expert"; do
            [ ! -e "$part/$text/$file.npy" ] || mv "$part/$text/$file.npy" "logprobs/$text/$file.npy"
        done
    done
    ;;
*) fail "expected train, export or add" ;;
esac
