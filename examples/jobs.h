/* jobs.h - the tasks of a plan for many processes: a Makefile, a script for Slurm, and the number of a task from its
   argument or from the variables that schedulers of job arrays set. Nothing here schedules; a task that is done is
   skipped by the program itself. Included by mde_lab.c and dagan_lab.c. */
#ifndef MDEMIX_JOBS_H
#define MDEMIX_JOBS_H

#define JOBS_MAX_STEPS 4

/* `PROGRAM task FOLDER N` makes task number N; then `PROGRAM STEP FOLDER` for each step. */
typedef struct job_list {
    const char *program;        /* its name, where LAB names no path */
    const char *option;         /* before the folder: "", or "--out " */
    const char *out;            /* the folder */
    int count;                  /* tasks */
    int step_count;
    const char *steps[JOBS_MAX_STEPS];
} job_list;

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

static void write_makefile(mde_context *c, const job_list *j)
{
    mde_text *t = mde_text_create(c);
    int i;
    mde_text_format(t, "# The tasks of plan.json and the steps after them, in the folder where the plan was made:\n"
                       "#   make -f OUT/Makefile -j8 [LAB=path/to/%s] [THREADS=1, of each task]\n"
                       "LAB ?= %s\nTHREADS ?= 1\nTASKS =", j->program, j->program);
    for (i = 0; i < j->count; i++) mde_text_format(t, " task-%d", i);
    mde_text_add(t, "\n\n.PHONY:");
    for (i = j->step_count - 1; i >= 0; i--) mde_text_format(t, " %s", j->steps[i]);
    mde_text_format(t, " $(TASKS)\n%s:\n$(TASKS): task-%%:\n\t$(LAB) task %s", j->steps[j->step_count - 1], j->option);
    add_quoted(t, j->out, 1);
    mde_text_add(t, " $* --threads $(THREADS)\n");
    for (i = 0; i < j->step_count; i++) {
        mde_text_format(t, "%s: %s\n\t$(LAB) %s %s", j->steps[i], i > 0 ? j->steps[i - 1] : "$(TASKS)", j->steps[i],
                        j->option);
        add_quoted(t, j->out, 1);
        mde_text_add(t, "\n");
    }
    program_write(c, t, j->out, "Makefile");
    mde_text_free(t);
}

/* The script submits itself twice: as an array of the tasks, and for the steps after them, which start when all tasks
   are done and are cancelled when one has failed. Before its time is over a task gets SIGTERM, upon which the program
   leaves a checkpoint and exits with 130; it is then queued again, as after a node's failure. */
static void write_slurm(mde_context *c, const job_list *j)
{
    mde_text *t = mde_text_create(c);
    int i;
    mde_text_format(t, "#!/bin/sh\n"
                       "#SBATCH --job-name=%s\n"
                       "#SBATCH --cpus-per-task=1\n"
                       "#SBATCH --time=04:00:00\n"
                       "#SBATCH --requeue\n"
                       "#SBATCH --open-mode=append\n"
                       "#SBATCH --signal=B:TERM@120\n"
                       "# Started as `sh OUT/slurm.sbatch [options of sbatch]` in the folder where the plan was made.\n"
                       "lab=${LAB:-%s}\nout=", j->program, j->program);
    add_quoted(t, j->out, 0);
    mde_text_format(t, "\nthreads=${SLURM_CPUS_PER_TASK:-1}\n"
                    "if [ -z \"$SLURM_JOB_ID\" ]; then\n"
                    "    tasks=$(sbatch --parsable --array=0-%d \"$@\" \"$0\") || exit 1\n"
                    "    sbatch --dependency=\"afterok:${tasks%%%%;*}\" --kill-on-invalid-dep=yes \"$@\" \"$0\"\n"
                    "elif [ -n \"$SLURM_ARRAY_TASK_ID\" ]; then\n"
                    "    \"$lab\" task %s\"$out\" --threads \"$threads\" &\n",
                    j->count - 1, j->option);
    mde_text_add(t, "    task=$!\n"
                    "    trap 'kill -TERM $task' TERM\n"
                    "    wait $task\n"
                    "    code=$?\n"
                    "    while kill -0 $task 2> /dev/null; do wait $task; code=$?; done\n"
                    "    [ $code -ne 130 ] || scontrol requeue \"${SLURM_ARRAY_JOB_ID}_$SLURM_ARRAY_TASK_ID\"\n"
                    "    exit $code\n"
                    "else\n"
                    "    for step in");
    for (i = 0; i < j->step_count; i++) mde_text_format(t, " %s", j->steps[i]);
    mde_text_format(t, "; do\n"
                    "        \"$lab\" $step %s\"$out\" --threads \"$threads\" || exit 1\n"
                    "    done\n"
                    "fi\n", j->option);
    program_write(c, t, j->out, "slurm.sbatch");
    mde_text_free(t);
}

/* After `plan`: both files, and how they are used. */
static void jobs_write(mde_context *c, const job_list *j)
{
    write_makefile(c, j);
    write_slurm(c, j);
}

static void jobs_print(const job_list *j)
{
    printf("%d tasks planned: %s tasks %s%s lists them, ", j->count, j->program, j->option, j->out);
    printf("make -f %s/Makefile -j or sh %s/slurm.sbatch makes them\n", j->out, j->out);
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

/* Runs the tasks with these numbers, or without any that of this process in a job array. The function is told a number
   below count. */
static void run_listed_tasks(mde_context *c, const job_list *j, int count, char **numbers,
                             mde_status (*run)(void *user, int number), void *user)
{
    int i;
    for (i = 0; i < (count > 0 ? count : 1) && !program_failed(c); i++) {
        char *end;
        long long number = 0;
        if (count == 0) {
            number = task_of_array(c);
        } else if (!program_whole(numbers[i], &end, 0, 1e6, &number) || *end) {
            mde_fail(c, MDE_BAD_ARGUMENT, "task %.200s: is not a number", numbers[i]);
        }
        if (program_failed(c)) return;
        if (number < j->count) run(user, (int)number);
        else mde_fail(c, MDE_BAD_ARGUMENT, "task %lld: is not in the plan; expected 0 to %d", number, j->count - 1);
    }
}

/* A line of the list of tasks, and an entry of it as JSON. */
static void list_task(mde_json_writer *w, int number, const char *name, int done, int as_json)
{
    if (!as_json) printf("%4d  %-8s %s\n", number, done ? "done" : "-", name);
    mde_json_open(w, NULL, '{');
    mde_json_write_int(w, "task", number);
    mde_json_write_string(w, "name", name);
    mde_json_write_raw(w, "done", done ? "true" : "false");
    mde_json_close(w);
}

#endif
