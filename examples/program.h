/* program.h - what the programs of this folder share: options and their help, exit codes, control-C, progress, pages.
   To take a program elsewhere, copy it, this file, mdemix.h and what else it includes into one folder.

   A program has a table of options, a row each, from which parsing and --help come. --help, --version, --quiet,
   --threads and --seed are everywhere and mean the same, and so does --json where there is a result:

       program p;
       const program_option table[] = { { "--folds", PROGRAM_INT, "N", &folds, 2, 100, "of the cross-validation" } };
       program_start(&p, "name", "name: what it does in one line\n\n  name FILE [options]\n", table, 1);
       if (!program_parse(&p, argc, argv)) return p.code;
       c = program_context(&p);
       ...                                     with program_progress as callback and &p as its user pointer
       return program_end(&p, c);

   Where the results go is tried before the work, by program_try_file and program_try_folder.

   Exit codes: 0 done; 1 failed, with one line on stderr that says why; 2 wrong use, likewise; 130 stopped by control-C
   (or SIGTERM) at the next report of progress, when all that was finished is on disk. A second control-C kills. What
   cannot be printed is a failure, too. */
#ifndef MDEMIX_PROGRAM_H
#define MDEMIX_PROGRAM_H

#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#ifdef _WIN32
#include <windows.h>
#include <shellapi.h>
#ifdef _MSC_VER
#pragma comment(lib, "shell32")
#endif
#else
#include <sys/stat.h>
#include <unistd.h>
#if defined(__STRICT_ANSI__) && !defined(__cplusplus)
int setenv(const char *name, const char *value, int replace);   /* <stdlib.h> keeps it to itself under -std=c99 */
#endif
#endif

/* Programs compute in the library: for their own code -Og is enough, which is half the wait for the compiler. */
#if defined(__GNUC__) && !defined(__clang__) && defined(__OPTIMIZE__) && !defined(__OPTIMIZE_SIZE__)
#pragma GCC optimize("Og")
#endif

#if defined(__MINGW32__) && !defined(__clang__)
#define PROGRAM_PRINTF(text, first) __attribute__((format(gnu_printf, text, first)))
#elif defined(__GNUC__)
#define PROGRAM_PRINTF(text, first) __attribute__((format(printf, text, first)))
#else
#define PROGRAM_PRINTF(text, first)
#endif

enum { PROGRAM_DONE = 0, PROGRAM_FAILED = 1, PROGRAM_MISUSED = 2, PROGRAM_INTERRUPTED = 130 };

/* ---- Options ---- */

typedef enum program_kind {
    PROGRAM_HEADING,    /* no option: a line of the help between groups of them, in `help` */
    PROGRAM_FLAG,       /* int: 1 when given */
    PROGRAM_TEXT,       /* const char *, perhaps empty */
    PROGRAM_FILE,       /* const char *, not empty */
    PROGRAM_INPUT,      /* likewise, the path of what is read */
    PROGRAM_INT,        /* int, int64_t, double: from minimum to maximum */
    PROGRAM_INT64,
    PROGRAM_REAL,
    PROGRAM_POSITIVE,   /* double above 0 */
    PROGRAM_SEED,       /* uint64_t */
    PROGRAM_INTS        /* program_ints: numbers from minimum to maximum, separated by commas */
} program_kind;

typedef struct program_option {
    const char *name;                   /* with its dashes */
    program_kind kind;
    const char *value;                  /* what the help calls the value */
    void *target;                       /* where it goes; keeps what it has when the option is not given */
    double minimum, maximum;            /* of numbers; maximum 0: none but that of the type */
    const char *help;                   /* \n starts a new line */
} program_option;

#define PROGRAM_MAX_INTS 8
typedef struct program_ints { int count, values[PROGRAM_MAX_INTS]; } program_ints;

typedef struct program {
    const char *name, *usage;
    const program_option *options;
    int option_count;
    /* What is common to all programs. Preset threads or seed between start and parse for another default. */
    int quiet, threads;                 /* threads 0: all */
    uint64_t seed;
    const char *json_help;              /* set it where there is a result: what --json prints; NULL: no such option */
    int json;                           /* print it on stdout, and nothing else there */
    int max_arguments;                  /* how many arguments besides options are taken */
    int count;                          /* those that were given; they stand at the front of arguments */
    char **arguments;
    int code;                           /* to exit with when program_parse returns 0 */
    const char *when_stopped;           /* what to say after control-C */
} program;

static inline void program_start(program *p, const char *name, const char *usage, const program_option *options,
                                 int count)
{
    memset(p, 0, sizeof *p);
    p->name = name;
    p->usage = usage;
    p->options = options;
    p->option_count = count;
    p->when_stopped = "stopped";
}

/* Text in words from a column on, broken before column 110. */
static inline void program_print_wrapped(const char *text, int column)
{
    int at = column;
    while (*text) {
        int word = (int)strcspn(text, " \n");
        if (*text == '\n' || (at > column && at + word > 110)) {
            printf("\n%*s", column, "");
            at = column;
            text += *text == '\n';
        } else if (word > 0) {
            printf("%.*s", word, text);
            at += word;
            text += word;
        } else {
            int spaces = (int)strspn(text, " ");
            if (at + spaces + (int)strcspn(text + spaces, " \n") <= 110) printf("%*s", spaces, "");
            at += spaces;
            text += spaces;
        }
    }
    printf("\n");
}

static inline void program_print_option(const char *name, const char *value, const char *help)
{
    const int column = 26;
    int width = printf("  %s%s%s", name, value && *value ? " " : "", value ? value : "");
    if (width >= column) printf("\n%*s", column, "");
    else printf("%*s", column - width, "");
    program_print_wrapped(help, column);
}

static inline void program_help(const program *p)
{
    char text[100];
    int i;
    fputs(p->usage, stdout);
    printf("\n");
    for (i = 0; i < p->option_count; i++) {
        const program_option *o = &p->options[i];
        if (o->kind == PROGRAM_HEADING) printf("%s\n", o->help);
        else program_print_option(o->name, o->kind == PROGRAM_FLAG ? NULL : o->value, o->help);
    }
    printf("As in every program\n");
    snprintf(text, sizeof text, "of all that is random; default %llu", (unsigned long long)p->seed);
    program_print_option("--seed", "N", text);
    snprintf(text, sizeof text, "default: %s; results do not depend on it", p->threads == 1 ? "1" : "all");
    program_print_option("--threads", "N", text);
    program_print_option("--quiet", NULL, "no progress");
    if (p->json_help) {
        snprintf(text, sizeof text, "%s on stdout as JSON, and nothing else there", p->json_help);
        program_print_option("--json", NULL, text);
    }
    program_print_option("--version", NULL, "of the library");
    program_print_option("--help, -h", NULL, "this text");
}

/* Reads [minimum, maximum] as a whole number from the start of text; *end is where it stopped. */
static inline int program_whole(const char *text, char **end, double minimum, double maximum, long long *value)
{
    errno = 0;
    *value = strtoll(text, end, 10);
    return *end != text && errno == 0 && (double)*value >= minimum && (double)*value <= maximum;
}

/* 1 when the whole of the text is a number. */
static inline int program_number(const char *text, size_t length, double *value)
{
    char buffer[100], *end;
    if (length == 0 || length >= sizeof buffer || *text == ' ') return 0;
    memcpy(buffer, text, length);
    buffer[length] = 0;
    *value = strtod(buffer, &end);
    return *end == 0;
}

static inline int program_set_ints(program_ints *out, const char *text, double minimum, double maximum)
{
    char *end;
    long long value;
    out->count = 0;
    while (out->count < PROGRAM_MAX_INTS && program_whole(text, &end, minimum, maximum, &value)) {
        out->values[out->count++] = (int)value;
        if (*end == 0) return 1;
        if (*end != ',') return 0;
        text = end + 1;
    }
    return 0;
}

/* Returns 0 when text is no value for the option. */
static inline int program_set(const program_option *o, const char *text)
{
    double maximum = o->maximum > 0 ? o->maximum : o->kind == PROGRAM_INT || o->kind == PROGRAM_INTS ? 1e9 : 1e18;
    long long whole = 0;
    double real;
    char *end;
    switch (o->kind) {
    case PROGRAM_TEXT:
        *(const char **)o->target = text;
        return 1;
    case PROGRAM_FILE:
    case PROGRAM_INPUT:
        *(const char **)o->target = text;
        return *text != 0;
    case PROGRAM_INT:
    case PROGRAM_INT64:
        if (!program_whole(text, &end, o->minimum, maximum, &whole) || *end) return 0;
        if (o->kind == PROGRAM_INT) *(int *)o->target = (int)whole;
        else *(int64_t *)o->target = (int64_t)whole;
        return 1;
    case PROGRAM_REAL:
    case PROGRAM_POSITIVE:
        if (!program_number(text, strlen(text), &real) ||
            !(o->kind == PROGRAM_POSITIVE ? real > 0 : real >= o->minimum) || (o->maximum > 0 && real > o->maximum))
            return 0;
        *(double *)o->target = real;
        return 1;
    case PROGRAM_SEED:
        errno = 0;
        *(uint64_t *)o->target = (uint64_t)strtoull(text, &end, 10);
        return *text >= '0' && *text <= '9' && *end == 0 && errno == 0;
    case PROGRAM_INTS:
        return program_set_ints((program_ints *)o->target, text, o->minimum, maximum);
    default:
        return 0;
    }
}

/* What a value must be, for the error. */
static inline void program_describe(const program_option *o, char *text, size_t size)
{
    const char *what = o->kind == PROGRAM_REAL ? "a number" :
                       o->kind == PROGRAM_INTS ? "whole numbers, separated by commas," : "a whole number";
    if (o->kind >= PROGRAM_TEXT && o->kind <= PROGRAM_INPUT) snprintf(text, size, "expected a text");
    else if (o->kind == PROGRAM_POSITIVE) snprintf(text, size, "expected a number above 0");
    else if (o->maximum > 0) snprintf(text, size, "expected %s from %.10g to %.10g", what, o->minimum, o->maximum);
    else snprintf(text, size, "expected %s not below %.10g", what, o->minimum);
}

/* Wrong use: one line on stderr; program_parse returns what this returns. */
static inline int program_misused(program *p, const char *about, const char *what)
{
    fprintf(stderr, "%s: %s%s; see %s --help\n", p->name, about, what, p->name);
    p->code = PROGRAM_MISUSED;
    return 0;
}

static inline const program_option *program_find(const program_option *options, int count, const char *name,
                                                 size_t length)
{
    int i;
    for (i = 0; i < count; i++) {
        if (options[i].name && strlen(options[i].name) == length && memcmp(options[i].name, name, length) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

/* One option at argv[*i]; takes the value behind it, too. */
static inline int program_parse_option(program *p, const program_option *common, int common_count, int argc,
                                       char **argv, int *i)
{
    const char *name = argv[*i], *equals = strchr(name, '='), *value = NULL;
    size_t length = equals ? (size_t)(equals - name) : strlen(name);
    const program_option *o = program_find(p->options, p->option_count, name, length);
    char expected[120];
    if (!o) o = program_find(common, common_count, name, length);
    if (!o) return program_misused(p, name, " is not an option");
    if (o->kind == PROGRAM_FLAG) {
        if (equals) return program_misused(p, o->name, " takes no value");
        *(int *)o->target = 1;
        return 1;
    }
    if (equals) value = equals + 1;
    else if (*i + 1 < argc) value = argv[++*i];
    if (value && program_set(o, value)) return 1;
    program_describe(o, expected, sizeof expected);
    fprintf(stderr, "%s: %s: \"%s\" is not a value for it; %s\n", p->name, o->name, value ? value : "", expected);
    p->code = PROGRAM_MISUSED;
    return 0;
}

/* 1 when all that was printed has arrived; otherwise 0, and a line on stderr. */
static inline int program_printed(const program *p)
{
    errno = 0;
    if (fflush(stdout) == 0 && !ferror(stdout)) return 1;
    fprintf(stderr, "%s: standard output: cannot be written: %s\n", p->name,
            errno ? strerror(errno) : "an earlier part was not");
    return 0;
}

/* Threads that wait sleep: where other work keeps a core busy, those that spin take from each other the time to finish,
   and a training takes many times as long. OpenMP reads the environment before main, hence a second start.
   What the user's environment says of it stays. */
static inline void program_wait_passively(char **argv)
{
#if defined(_OPENMP) && defined(__linux__)
    static const char *const names[4] = { "OMP_WAIT_POLICY", "GOMP_SPINCOUNT", "KMP_BLOCKTIME", "KMP_LIBRARY" };
    char path[4096];
    ssize_t length;
    int i;
    for (i = 0; i < 4; i++) if (getenv(names[i])) return;
    length = readlink("/proc/self/exe", path, sizeof path - 1);
    if (length <= 0 || setenv(names[0], "passive", 1) != 0) return;
    path[length] = 0;
    execv(path, argv);      /* where that fails, it goes on as it is */
#else
    (void)argv;
#endif
}

#ifdef _WIN32
/* The arguments in UTF-8, as file names are here; main has them in the code page of the day. They live as long as the
   program. */
static inline char **program_arguments(int *argc, char **argv)
{
    int count = 0, i, bytes;
    wchar_t **wide = CommandLineToArgvW(GetCommandLineW(), &count);
    char **out = wide ? (char **)calloc((size_t)count + 1, sizeof *out) : NULL;
    for (i = 0; out && i < count; i++) {
        bytes = WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, NULL, 0, NULL, NULL);
        out[i] = (char *)calloc((size_t)bytes + 1, 1);
        if (!out[i]) return argv;
        WideCharToMultiByte(CP_UTF8, 0, wide[i], -1, out[i], bytes, NULL, NULL);
    }
    LocalFree(wide);
    if (out) *argc = count;
    return out ? out : argv;
}
#endif

/* Returns 1 to go on, 0 to exit with p->code: all was said. Moves the arguments that are no options to the front. */
static inline int program_parse(program *p, int argc, char **argv)
{
    const program_option common[] = { { "--quiet", PROGRAM_FLAG, NULL, &p->quiet, 0, 0, NULL },
                                      { "--threads", PROGRAM_INT, NULL, &p->threads, 0, 1024, NULL },
                                      { "--seed", PROGRAM_SEED, NULL, &p->seed, 0, 0, NULL },
                                      { "--json", PROGRAM_FLAG, NULL, &p->json, 0, 0, NULL } };
    int i, options = 1;
#ifdef _WIN32
    argv = program_arguments(&argc, argv);
    SetConsoleOutputCP(CP_UTF8);
#else
    /* A file that is opened would take the place of a stream that is closed, and get what is printed. */
    while ((i = open("/dev/null", O_RDWR)) >= 0 && i <= 2) {
        if (i == 1) p->code = PROGRAM_FAILED;
    }
    if (i > 2) close(i);
    if (p->code) {
        fprintf(stderr, "%s: standard output: is closed\n", p->name);
        return 0;
    }
#endif
    program_wait_passively(argv);
    p->arguments = argv + 1;
    for (i = 1; i < argc; i++) {
        if (options && (strcmp(argv[i], "--help") == 0 || strcmp(argv[i], "-h") == 0)) {
            program_help(p);
            p->code = program_printed(p) ? PROGRAM_DONE : PROGRAM_FAILED;
            return 0;
        }
        if (options && strcmp(argv[i], "--version") == 0) {
            printf("%s %s\n", p->name, MDE_VERSION);
            p->code = program_printed(p) ? PROGRAM_DONE : PROGRAM_FAILED;
            return 0;
        }
        if (options && strcmp(argv[i], "--") == 0) {
            options = 0;
        } else if (options && argv[i][0] == '-' && argv[i][1]) {
            if (!program_parse_option(p, common, p->json_help ? 4 : 3, argc, argv, &i)) return 0;
        } else {
            if (p->count == p->max_arguments) return program_misused(p, argv[i], " is one argument too many");
            p->arguments[p->count++] = argv[i];
        }
    }
    return 1;
}

/* ---- Control-C, progress, end ---- */

static volatile sig_atomic_t program_interrupted;

static inline void program_on_signal(int number)
{
    program_interrupted = 1;
    signal(number, SIG_DFL);
}

static inline mde_context *program_context(program *p)
{
    mde_context_desc desc;
    mde_context *c;
    memset(&desc, 0, sizeof desc);
    desc.threads = p->threads;
    signal(SIGINT, program_on_signal);
    signal(SIGTERM, program_on_signal);
#ifdef SIGXFSZ
    signal(SIGXFSZ, SIG_IGN);   /* a file over the user's limit is an error of the write */
#endif
    c = mde_context_create(&desc);
    if (mde_other_bits(c) && !p->quiet) fprintf(stderr, "%s: %s\n", p->name, mde_other_bits(c));
    return c;
}

/* An mde_progress_fn, with the program as its user pointer. */
static inline int program_progress(const mde_progress *progress, void *user)
{
    const program *p = (const program *)user;
    if (!p->quiet) mde_print_progress(progress, NULL);
    return program_interrupted;
}

/* One line on stderr; what comes from files and their names must not speak to the terminal. */
static inline void program_complain(const char *name, const char *what)
{
    fprintf(stderr, "%s: ", name);
    for (; *what; what++) fputc((unsigned char)*what < ' ' || *what == 0x7F ? '?' : *what, stderr);
    fputc('\n', stderr);
}

/* Frees the context; says what went wrong, if anything did. */
static inline int program_end(program *p, mde_context *c)
{
    mde_status status = mde_context_status(c);
    if (status == MDE_STOPPED) fprintf(stderr, "\n%s: %s\n", p->name, p->when_stopped);
    else if (status) program_complain(p->name, c ? mde_error(c) : "out of memory");
    mde_context_free(c);
    if (status == MDE_OK && !program_printed(p)) return PROGRAM_FAILED;
    return status == MDE_STOPPED ? PROGRAM_INTERRUPTED : status ? PROGRAM_FAILED : PROGRAM_DONE;
}

/* Reports step of steps to a callback, which may be NULL; returns 1, with an error, when it wants to stop. */
static inline int program_step(mde_context *c, mde_progress_fn *progress, void *user, const char *stage, int step,
                               int steps)
{
    mde_progress p;
    if (!progress) return 0;
    memset(&p, 0, sizeof p);
    p.stage = stage;
    p.step = step;
    p.steps = steps;
    p.loss = (double)NAN;
    p.reported = step - 1;
    if (!progress(&p, user)) return 0;
    mde_fail(c, MDE_STOPPED, "%s: stopped", stage);
    return 1;
}

/* ---- Memory, text, files ---- */

static inline int program_failed(const mde_context *c)
{
    return mde_context_status(c) != MDE_OK;
}

/* For qsort: ascending. */
static inline int program_compare_doubles(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

/* rows * columns zeros, freed with mde_release. */
static inline double *program_doubles(mde_context *c, int rows, int columns)
{
    return (double *)mde_alloc(c, rows > 0 ? (size_t)rows : 1, (columns > 0 ? (size_t)columns : 1) * sizeof(double));
}

static inline char *program_copy(mde_context *c, const char *text)
{
    size_t length = strlen(text);
    char *copy = (char *)mde_alloc(c, length + 1, 1);
    if (copy) memcpy(copy, text, length);
    return copy;
}

#define PROGRAM_PATH 4096

/* A path by a format; an error, and the path empty, when it is too long. Returns path. */
PROGRAM_PRINTF(3, 4)
static inline const char *program_path(mde_context *c, char path[PROGRAM_PATH], const char *format, ...)
{
    va_list arguments;
    int length;
    va_start(arguments, format);
    length = vsnprintf(path, PROGRAM_PATH, format, arguments);
    va_end(arguments);
    if (length < 0 || length >= PROGRAM_PATH) {
        mde_fail(c, MDE_BAD_ARGUMENT, "%.200s...: a path of %d bytes is too long", path, length);
        path[0] = 0;
    }
    return path;
}

/* Whether it is several paths, commas between, and not one that has a comma. */
static inline int program_is_list(const char *paths)
{
    return strchr(paths, ',') && !mde_is_file(paths) && !mde_is_folder(paths);
}

/* The first path of a list; returns what follows it, NULL where nothing does. */
static inline const char *program_list_path(mde_context *c, const char *paths, char path[PROGRAM_PATH])
{
    size_t length = strcspn(paths, ",");
    program_path(c, path, "%.*s", (int)length, paths);
    return paths[length] && paths[length + 1] ? paths + length + 1 : NULL;
}

/* Writes folder/name, unless something has failed before. */
static inline void program_write(mde_context *c, mde_text *t, const char *folder, const char *name)
{
    char path[PROGRAM_PATH];
    program_path(c, path, "%s/%s", folder, name);
    if (!program_failed(c)) mde_text_write(t, path);
}

/* An error when a file, NULL: none, could not be written at the end. */
static inline void program_try_file(mde_context *c, const char *path)
{
    if (path && !program_failed(c)) mde_file_try(c, path);
}

/* A checkpoint of mde_lm_train or dagan_train that is cut short or damaged, as a copy or a disk may leave it: that is
   said, and it is removed, for the training would fail at it each time and begins anew without it. All else stays. */
static inline void program_check_checkpoint(mde_context *c, const char *name, const char *path)
{
    static const char start[] = "{\"__metadata__\":{\"";
    unsigned char *bytes;
    size_t size, i;
    int ours;
    char what[400];
    if (!path || program_failed(c) || !mde_is_file(path)) return;
    bytes = mde_file_read(c, path, (size_t)-1, &size);
    if (!bytes) return;
    ours = size == 0 || size > 3;       /* the length of its header, less than 16 MB in 8 bytes; and how that begins */
    for (i = 3; i < size && i < 7 + sizeof start && ours; i++) {
        ours = bytes[i] == (i < 8 ? 0 : (unsigned char)start[i - 8]);
    }
    if (ours && i < size) {
        size_t rest = size - i < 6 ? size - i : 6;
        ours = memcmp(bytes + i, "mdemix", rest) == 0 || memcmp(bytes + i, "dagan.", rest) == 0;
    }
    if (ours) mde_safetensors_free(c, mde_safetensors_parse(c, path, bytes, size));
    mde_release(c, bytes);
    if (!ours || mde_context_status(c) != MDE_BAD_FILE) return;
    snprintf(what, sizeof what, "%s; the training begins anew", mde_error(c));
    mde_clear_error(c);
    if (remove(path) == 0) program_complain(name, what);
    else mde_fail(c, MDE_IO, "%s: is damaged and cannot be removed: %s", path, strerror(errno));
}

/* An error when a folder could not be made or nothing written in it. Makes nothing. */
static inline void program_try_folder(mde_context *c, const char *folder)
{
    char path[PROGRAM_PATH], reason[300];
    size_t length;
    program_path(c, path, "%s", folder);
    if (mde_is_file(path)) mde_fail(c, MDE_BAD_ARGUMENT, "%s: is a file; expected a folder", folder);
    length = strlen(path);
    while (length > 0 && !mde_is_folder(path) && !mde_is_file(path)) {      /* what is there of it */
        while (length > 0 && path[length - 1] == '/') length--;
        while (length > 0 && path[length - 1] != '/') length--;
        while (length > 1 && path[length - 1] == '/') length--;
        path[length] = 0;
    }
    if (program_failed(c)) return;
    if (mde_is_file(path)) {
        mde_fail(c, MDE_IO, "%s: the folder cannot be made: a file has the name %s", folder, path);
        return;
    }
    snprintf(path + length, sizeof path - length, "%s.mde-try", length > 0 ? "/" : "");
    if (mde_file_try(c, path) == MDE_OK) return;
    snprintf(reason, sizeof reason, "%s", strrchr(mde_error(c), ':'));
    mde_clear_error(c);
    mde_fail(c, MDE_IO, "%s: the folder cannot be written to%s", folder, reason);
}

/* Whole numbers of a JSON file, whatever somebody has made of it: what is out of range becomes its end. */
static inline int64_t program_integer(const mde_json *object, const char *key)
{
    double value = mde_json_number(object, key, 0);
    return value != value ? 0 : (int64_t)(value > 9e15 ? 9e15 : value < -9e15 ? -9e15 : value);
}

static inline int program_int(const mde_json *object, const char *key)
{
    int64_t value = program_integer(object, key);
    return (int)(value > 2147483647 ? 2147483647 : value < -2147483647 ? -2147483647 : value);
}

/* Prints a file of results, for --json. */
static inline void program_print_file(mde_context *c, const char *folder, const char *name)
{
    char path[PROGRAM_PATH];
    size_t size;
    unsigned char *bytes = NULL;
    program_path(c, path, "%s/%s", folder, name);
    if (!program_failed(c)) bytes = mde_file_read(c, path, (size_t)1 << 30, &size);
    if (bytes) fwrite(bytes, 1, size, stdout);
    mde_release(c, bytes);
}

/* ---- Finished work ----
   Work that is finished leaves a record: fingerprints of all that it depended on and of the files that it wrote, and
   what it printed. Asked for again, with nothing of that changed, it says so, prints that, and does no more:

       program_work w = program_work_start(&p, c, folder, "fit");      the record is folder/fit.done
       program_work_options(&w);                                       what it depends on besides the version
       program_work_output(&w, "fit.json");                            its files, what is shown first
       if (!program_work_is_done(&w, 1)) {
           ...
           program_work_finish(&w, printed);
       }
*/

#define PROGRAM_MAX_OUTPUTS 12

typedef struct program_work {
    const program *p;
    mde_context *context;
    const char *folder, *name;                  /* no folder: outputs are whole paths, the record is the first's */
    const char *outputs[PROGRAM_MAX_OUTPUTS];   /* files or folders in that folder */
    int optional[PROGRAM_MAX_OUTPUTS];          /* not there is as good */
    int output_count;
    int passing;                                /* something that it reads or writes is there once only */
    mde_text *key;                              /* what it depends on */
} program_work;

/* Adds what a path holds, of a folder all that is in it. Returns 0 when there is neither file nor folder. */
static inline int program_add_content(mde_text *t, mde_context *c, const char *path)
{
    char inside[PROGRAM_PATH];
    uint64_t size, fingerprint;
    mde_names names;
    int i, all = 1;
    memset(&names, 0, sizeof names);
    if (program_failed(c)) return 0;
    if (mde_is_file(path)) {
        if (mde_file_fingerprint(c, path, &size, &fingerprint) != MDE_OK) {
            mde_clear_error(c);
            return 0;
        }
        mde_text_format(t, " %llu %016llx", (unsigned long long)size, (unsigned long long)fingerprint);
        return 1;
    }
    if (!mde_is_folder(path) || mde_folder_list(c, path, &names) != MDE_OK) {
        if (mde_context_status(c) != MDE_OUT_OF_MEMORY) mde_clear_error(c);
        mde_text_add(t, " -");
        return 0;
    }
    mde_text_add(t, " (");
    for (i = 0; i < names.count && !program_failed(c); i++) {
        mde_text_add_json(t, names.items[i]);
        all &= program_add_content(t, c, program_path(c, inside, "%s/%s", path, names.items[i]));
    }
    mde_text_add(t, ")");
    mde_names_free(c, &names);
    return all;
}

static inline program_work program_work_start(const program *p, mde_context *c, const char *folder, const char *name)
{
    program_work w;
    memset(&w, 0, sizeof w);
    w.p = p;
    w.context = c;
    w.folder = folder;
    w.name = name;
    w.key = mde_text_create(c);
    mde_text_format(w.key, "%s %s %s", p->name, MDE_VERSION, name);
    return w;
}

/* A path, or a list of them. What is no file and no folder, as a pipe is, cannot be compared: the work is done then. */
static inline void program_work_input(program_work *w, const char *path)
{
    char part[PROGRAM_PATH];
    if (!program_is_list(path)) {
        if (!program_add_content(w->key, w->context, path)) w->passing = 1;
        return;
    }
    while (path) {
        path = program_list_path(w->context, path, part);
        if (!program_add_content(w->key, w->context, part)) w->passing = 1;
    }
}

/* A device or pipe keeps nothing that could be compared, so work that writes to one is done each time. */
static inline void program_work_output(program_work *w, const char *name)
{
#ifndef _WIN32
    struct stat info;
    if (!w->folder && stat(name, &info) == 0 && !S_ISREG(info.st_mode) && !S_ISDIR(info.st_mode)) {
        w->passing = w->optional[w->output_count] = 1;
    }
#endif
    w->outputs[w->output_count++] = name;
}

/* An output that may not be made; once it is known that it was, `made` says so. */
static inline void program_work_may_output(program_work *w, const char *name)
{
    w->optional[w->output_count] = 1;
    program_work_output(w, name);
}

static inline void program_work_made(program_work *w, const char *name)
{
    int i;
    for (i = 0; i < w->output_count; i++) if (strcmp(w->outputs[i], name) == 0) w->optional[i] = 0;
}

/* The value of an option as text that it takes: 0 or 1 of a flag, nothing where there is none. */
static inline void program_add_value(mde_text *t, const program_option *o, const void *value)
{
    int i;
    if (o->kind == PROGRAM_FLAG || o->kind == PROGRAM_INT) {
        mde_text_format(t, "%d", *(const int *)value);
    } else if (o->kind == PROGRAM_INT64) {
        mde_text_format(t, "%lld", (long long)*(const int64_t *)value);
    } else if (o->kind == PROGRAM_SEED) {
        mde_text_format(t, "%llu", (unsigned long long)*(const uint64_t *)value);
    } else if (o->kind == PROGRAM_REAL || o->kind == PROGRAM_POSITIVE) {
        mde_text_add_number(t, *(const double *)value, 17);
    } else if (o->kind == PROGRAM_INTS) {
        const program_ints *list = (const program_ints *)value;
        for (i = 0; i < list->count; i++) mde_text_format(t, "%s%d", i > 0 ? "," : "", list->values[i]);
    } else if (o->kind != PROGRAM_HEADING && *(const char *const *)value) {
        mde_text_add(t, *(const char *const *)value);
    }
}

/* The seed, the program's own options, and what is read by their paths. */
static inline void program_work_options(program_work *w)
{
    int i;
    mde_text_format(w->key, " %llu", (unsigned long long)w->p->seed);
    for (i = 0; i < w->p->option_count; i++) {
        const program_option *o = &w->p->options[i];
        const char *text;
        if (o->kind == PROGRAM_HEADING) continue;
        mde_text_format(w->key, "\n%s ", o->name);
        if (o->kind != PROGRAM_TEXT && o->kind != PROGRAM_FILE && o->kind != PROGRAM_INPUT) {
            program_add_value(w->key, o, o->target);
        } else if ((text = *(const char *const *)o->target) != NULL) {
            mde_text_add_json(w->key, text);
            if (o->kind == PROGRAM_INPUT) program_work_input(w, text);
        }
    }
}

static inline const char *program_work_path(const program_work *w, char path[PROGRAM_PATH], const char *name,
                                            const char *ending)
{
    return program_path(w->context, path, "%s%s%s%s", w->folder ? w->folder : "", w->folder ? "/" : "", name, ending);
}

static inline const char *program_work_record(const program_work *w, char path[PROGRAM_PATH])
{
    return program_work_path(w, path, w->folder ? w->name : w->outputs[0], ".done");
}

/* The first line of the record. Returns the first output that is not there and should be, or NULL. */
static inline const char *program_work_state(const program_work *w, char state[40])
{
    mde_context *c = w->context;
    mde_text *t = mde_text_create(c);
    char path[PROGRAM_PATH];
    const char *missing = NULL;
    int i;
    for (i = 0; i < w->output_count; i++) {
        int there = program_add_content(t, c, program_work_path(w, path, w->outputs[i], ""));
        if (!there && !w->optional[i] && !missing) missing = w->outputs[i];
    }
    state[0] = 0;
    if (!program_failed(c)) {
        snprintf(state, 40, "%016llx %016llx\n", (unsigned long long)mde_fingerprint(w->key->bytes, w->key->length),
                 (unsigned long long)mde_fingerprint(t->bytes, t->length));
    }
    mde_text_free(t);
    return missing;
}

/* show: print what it printed. */
static inline int program_work_is_done(const program_work *w, int show)
{
    mde_context *c = w->context;
    char path[PROGRAM_PATH], state[40];
    unsigned char *record = NULL;
    size_t size = 0, first;
    int done;
    program_work_record(w, path);
    if (program_failed(c) || w->passing || !mde_is_file(path)) return 0;
    program_work_state(w, state);
    first = strlen(state);
    if (!program_failed(c)) record = mde_file_read(c, path, SIZE_MAX, &size);
    if (!record && mde_context_status(c) != MDE_OUT_OF_MEMORY) mde_clear_error(c);
    done = record && first > 0 && size >= first && memcmp(record, state, first) == 0;
    if (done && !w->p->quiet) {
        fprintf(stderr, "%s: is done: %s\n", w->folder ? w->name : w->p->name,
                program_work_path(w, path, w->outputs[0], ""));
    }
    if (done && show) fwrite(record + first, 1, size - first, stdout);
    mde_release(c, record);
    return done;
}

/* printed: what to print when the work is asked for again; NULL: nothing. An output that somebody deleted in the
   meantime is an error. */
static inline void program_work_finish(const program_work *w, const char *printed)
{
    mde_text *t = mde_text_create(w->context);
    char path[PROGRAM_PATH], state[40];
    const char *missing = program_work_state(w, state);
    if (missing && !program_failed(w->context)) {
        mde_fail(w->context, MDE_IO, "%s: was written, and is gone", program_work_path(w, path, missing, ""));
    }
    mde_text_add(t, state);
    if (printed) mde_text_add(t, printed);
    program_work_record(w, path);
    if (!w->passing && !program_failed(w->context)) mde_text_write(t, path);
    mde_text_free(t);
}

/* ---- Pages: one file each, without references to others ---- */

static inline void program_page_open(mde_text *t, const char *title, const char *heading)
{
    mde_text_add(t,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
        "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
        "<meta name=\"color-scheme\" content=\"light dark\">\n<style>"
        "body{font:16px/1.5 system-ui,sans-serif;color:#222;max-width:1060px;margin:2em auto;padding:0 1em;"
        "overflow-wrap:break-word}"
        "h1{font-size:1.7em}h2{margin-top:2em;border-bottom:1px solid #ddd}table{border-collapse:collapse;margin:1em 0}"
        "th,td{padding:.25em .6em;text-align:right;border-bottom:1px solid #e5e5e5}"
        "th:first-child,td:first-child{text-align:left}th{background:#f6f6f6}"
        ".best{font-weight:bold;background:#e8f4ea}.note{color:#555;font-size:.92em}"
        "svg,img{max-width:100%;height:auto}code{background:#f4f4f4;padding:0 .2em}.wide{overflow-x:auto}"
        ".warn{background:#fff4e0;border-left:4px solid #e09020;padding:.5em 1em}"
        /* on a phone tables and pictures scroll, so that their text stays readable */
        "@media(max-width:700px){h1{font-size:1.4em}table{display:block;overflow-x:auto}.wide svg{max-width:none}}"
        /* pictures are drawn dark on light: inverted, with the hues turned back */
        "@media(prefers-color-scheme:dark){body{color:#e6e8ea;background:#16191d}h2,th,td{border-color:#3a3f46}"
        "th,code{background:#262b31}.best{background:#1f3d27}.note{color:#a9b0b8}.warn{background:#3a2c14}"
        "svg{filter:invert(.91) hue-rotate(180deg)}}</style>\n");
    mde_text_format_html(t, "<title>%s</title>\n</head>\n<body>\n<h1>%s</h1>\n", title, heading);
}

static inline void program_page_close(mde_text *t)
{
    mde_text_add(t, "</body>\n</html>\n");
}

/* A cell of a table with a number; NaN shows as a dash. */
static inline void program_page_number(mde_text *t, double value, int decimals, int best)
{
    mde_text_add(t, best ? "<td class=\"best\">" : "<td>");
    if (value == value) mde_text_add_fixed(t, value, decimals);
    else mde_text_add(t, "&ndash;");
    mde_text_add(t, "</td>");
}

/* "low to high", or a dash when either is NaN. */
static inline void program_page_range(mde_text *t, double low, double high, int decimals)
{
    mde_text_add(t, "<td>");
    if (low == low && high == high) {
        mde_text_add_fixed(t, low, decimals);
        mde_text_add(t, " to ");
        mde_text_add_fixed(t, high, decimals);
    } else {
        mde_text_add(t, "&ndash;");
    }
    mde_text_add(t, "</td>");
}

#endif /* MDEMIX_PROGRAM_H */
