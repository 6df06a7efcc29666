/* mde_lab_jobs.h - the runs of a plan for many processes: a Makefile, a script for Slurm, and the number of a task from
   the variables that schedulers of job arrays set. Nothing here schedules; a task that is done is skipped by itself. */
#ifndef MDE_LAB_JOBS_H
#define MDE_LAB_JOBS_H

/* A word of the shell; within a Makefile's recipe, a dollar is doubled. */
static void add_quoted(mde_text *t, const char *word, int in_make)
{
    mde_text_add(t, "'");
    for (; *word; word++) {
        if (*word == '\'') mde_text_add(t, "'\\''");
        else mde_text_format(t, in_make && *word == '$' ? "$%c" : "%c", *word);
    }
    mde_text_add(t, "'");
}

static void write_makefile(experiment *x)
{
    static const char *const steps[5] = { "$(TASKS)", "fit", "search", "verify", "report" };
    mde_text *t = mde_text_create(x->context);
    int i;
    mde_text_add(t, "# The runs of plan.json and the steps after them, in the folder where the plan was made:\n"
                    "#   make -f OUT/Makefile -j8 [LAB=path/to/mde_lab] [THREADS=1, of each run]\n"
                    "LAB ?= mde_lab\nTHREADS ?= 1\nTASKS =");
    for (i = 0; i < x->count; i++) mde_text_format(t, " task-%d", i);
    mde_text_add(t, "\n\n.PHONY: report verify search fit $(TASKS)\nreport:\n$(TASKS): task-%:\n"
                    "\t$(LAB) task ");
    add_quoted(t, x->out, 1);
    mde_text_add(t, " $* --threads $(THREADS)\n");
    for (i = 1; i < 5; i++) {
        mde_text_format(t, "%s: %s\n\t$(LAB) %s ", steps[i], steps[i - 1], steps[i]);
        add_quoted(t, x->out, 1);
        mde_text_add(t, "\n");
    }
    program_write(x->context, t, x->out, "Makefile");
    mde_text_free(t);
}

/* The script submits itself twice: as an array of the runs, and for the steps after them, which start when all runs
   are done and are cancelled when one has failed. Before its time is over a run gets SIGTERM, upon which mde_lab leaves
   a checkpoint and exits with 130; it is then queued again, as after a node's failure. */
static void write_slurm(experiment *x)
{
    mde_text *t = mde_text_create(x->context);
    mde_text_add(t, "#!/bin/sh\n"
                    "#SBATCH --job-name=mde_lab\n"
                    "#SBATCH --cpus-per-task=1\n"
                    "#SBATCH --time=04:00:00\n"
                    "#SBATCH --requeue\n"
                    "#SBATCH --open-mode=append\n"
                    "#SBATCH --signal=B:TERM@120\n"
                    "# Started as `sh OUT/slurm.sbatch [options of sbatch]` in the folder where the plan was made.\n"
                    "lab=${LAB:-mde_lab}\nout=");
    add_quoted(t, x->out, 0);
    mde_text_format(t, "\nthreads=${SLURM_CPUS_PER_TASK:-1}\n"
                    "if [ -z \"$SLURM_JOB_ID\" ]; then\n"
                    "    runs=$(sbatch --parsable --array=0-%d \"$@\" \"$0\") || exit 1\n"
                    "    sbatch --dependency=\"afterok:${runs%%%%;*}\" --kill-on-invalid-dep=yes \"$@\" \"$0\"\n",
                    x->count - 1);
    mde_text_add(t, "elif [ -n \"$SLURM_ARRAY_TASK_ID\" ]; then\n"
                    "    \"$lab\" task \"$out\" --threads \"$threads\" &\n"
                    "    run=$!\n"
                    "    trap 'kill -TERM $run' TERM\n"
                    "    wait $run\n"
                    "    code=$?\n"
                    "    while kill -0 $run 2> /dev/null; do wait $run; code=$?; done\n"
                    "    [ $code -ne 130 ] || scontrol requeue \"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"\n"
                    "    exit $code\n"
                    "else\n"
                    "    for step in fit search verify report; do\n"
                    "        \"$lab\" $step \"$out\" --threads \"$threads\" || exit 1\n"
                    "    done\n"
                    "fi\n");
    program_write(x->context, t, x->out, "slurm.sbatch");
    mde_text_free(t);
}

/* The number of this process in a job array, -1 and an error without one. Grid Engine counts from 1. */
static int task_of_array(mde_context *c)
{
    static const char *const variables[4] = { "SLURM_ARRAY_TASK_ID", "PBS_ARRAY_INDEX", "JOB_COMPLETION_INDEX",
                                              "SGE_TASK_ID" };
    int i;
    for (i = 0; i < 4; i++) {
        const char *text = getenv(variables[i]);
        char *end;
        long long number;
        if (!text || !*text || strcmp(text, "undefined") == 0) continue;
        if (program_whole(text, &end, i == 3, 1e6, &number) && !*end) return (int)number - (i == 3);
        mde_fail(c, MDE_BAD_ARGUMENT, "%s is \"%.60s\", which is no number of a task", variables[i], text);
        return -1;
    }
    mde_fail(c, MDE_BAD_ARGUMENT, "no task is named, and none of %s, %s, %s and %s is set; expected numbers of tasks",
             variables[0], variables[1], variables[2], variables[3]);
    return -1;
}

#endif
