/* What is read by its path, from damaged bytes: weights, checkpoints, image sets, run tables, plans, finished runs.
   Two programs: this text includes mde_lab, or mix_optimize with -DFUZZ_MIX. FUZZ_READER in the environment names the
   reader, one of the table at the end, FUZZ_FOLDER a folder to work in.
     fuzz_paths --list              the names of the readers
     fuzz_paths --seed FILE         writes a valid file of the reader to FILE
     fuzz_paths FILE...             reads these files, as the fuzzer does: for faults that it has found
   Built with -DLIBFUZZER -fsanitize=fuzzer it is a target for libFuzzer (or, by afl-clang-fast, AFL++).
   Whatever the bytes are, a reader gives a result or an error with a text, keeps no memory, and takes no more than a
   fixed amount of it. */
#if __has_include(<stb/stb_image.h>)
#ifdef __clang__
#pragma clang attribute push(__attribute__((no_sanitize("undefined"))), apply_to = function)
#endif
#define STB_IMAGE_IMPLEMENTATION
#include <stb/stb_image.h>
#ifdef __clang__
#pragma clang attribute pop
#endif
#endif
#define main program_main
#ifdef FUZZ_MIX
#include "../examples/mix_optimize.c"
#else
#define MDEDEF static
#define MDEMIX_IMPLEMENTATION
#define DAGAN_IMPLEMENTATION
#include "../dagan.h"
#include "../examples/mde_lab.c"
#endif
#undef main

static char place[96];      /* the folder that the readers work in */

static const char *in_place(const char *name)
{
    static char path[4][160];   /* as many at a time */
    static int turn;
    turn = (turn + 1) % 4;
    snprintf(path[turn], sizeof path[turn], "%s/%s", place, name);
    return path[turn];
}

static void must(int condition, const char *what)
{
    if (condition) return;
    fprintf(stderr, "fuzz_paths: %s\n", what);
    abort();
}

static void write_bytes(const char *path, const void *bytes, size_t size)
{
    FILE *file = fopen(path, "wb");
    must(file && fwrite(bytes, 1, size, file) == size && fclose(file) == 0, "the input cannot be written");
}

static mde_context *small_context(void)
{
    mde_context_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.max_bytes = (size_t)1 << 28;
    desc.threads = 1;
    return mde_context_create(&desc);
}

/* Runs the program in this process. */
static void run_program(int count, ...)
{
    char *arguments[24] = { NULL };
    va_list list;
    int i, code;
    va_start(list, count);
    for (i = 0; i < count; i++) arguments[i] = va_arg(list, char *);
    va_end(list);
    code = program_main(count, arguments);
    must(code == 0 || code == 1 || code == 2, "an exit code that no program has");
}

#ifdef FUZZ_MIX

static const char ratios[] = "run,web,code,books\n1,.2,.3,.5\n2,.5,.3,.2\n3,.1,.1,.8\n4,.6,.2,.2\n5,.3,.6,.1\n"
                             "6,.4,.4,.2\n7,.2,.5,.3\n8,.1,.7,.2\n9,.3,.3,.4\n10,.25,.25,.5\n11,.7,.1,.2\n12,.45,.15,.4\n";
static const char losses[] = "run,news,math\n1,3.1,2.5\n2,3.0,2.6\n3,3.4,2.9\n4,2.9,2.7\n5,3.2,2.2\n6,3.0,2.4\n"
                             "7,3.2,2.3\n8,3.5,2.1\n9,3.1,2.55\n10,3.15,2.6\n11,2.8,2.8\n12,3.0,2.75\n";
static const char domains[] = "domain,tokens,prior,min,max\nweb,1e9,.5,.05,.9\ncode,2e8,.25,0,.6\nbooks,1e8,.25,,\n";

static void seed_tables(mde_context *c)
{
    (void)c;
    write_bytes(in_place("ratios.csv"), ratios, sizeof ratios - 1);
    write_bytes(in_place("losses.csv"), losses, sizeof losses - 1);
    write_bytes(in_place("domains.csv"), domains, sizeof domains - 1);
}

static void try_tables(mde_context *c)
{
    (void)c;
    run_program(13, "mix_optimize", "--ratios", in_place("ratios.csv"), "--losses", in_place("losses.csv"), "--domains",
                in_place("domains.csv"), "--model", "ridge", "--out", place, "--threads=1", "--quiet");
}

#else

/* A small model, and the text that it is trained on. */
static mde_corpus *small_corpus(mde_context *c)
{
    static const char *const names[2] = { "a", "b" };
    static char text[4000];
    const char *texts[2];
    size_t lengths[2], i;
    mde_corpus_desc desc;
    memset(&desc, 0, sizeof desc);
    desc.document = 200;
    for (i = 0; i < sizeof text; i++) text[i] = "the cat sat on a mat. "[i % 22];
    texts[0] = text;
    texts[1] = text + 7;
    lengths[0] = lengths[1] = sizeof text - 8;
    return mde_corpus_from_texts(c, 2, names, texts, lengths, &desc);
}

static void train_small(mde_context *c, const char *checkpoint)
{
    mde_lm_desc shape;
    mde_train_desc train;
    mde_corpus *corpus = small_corpus(c);
    mde_lm *lm;
    memset(&shape, 0, sizeof shape);
    memset(&train, 0, sizeof train);
    shape.layers = 1;
    shape.width = shape.context = 8;
    shape.heads = 1;
    train.tokens = 64;
    train.batch = 4;
    train.checkpoint = checkpoint;
    lm = mde_lm_create(c, corpus, &shape);
    if (lm) mde_lm_train(lm, corpus, &train);
    mde_lm_free(lm);
    mde_corpus_free(corpus);
}

static void seed_lm(mde_context *c)
{
    mde_corpus *corpus = small_corpus(c);
    mde_lm_desc shape;
    mde_lm *lm;
    memset(&shape, 0, sizeof shape);
    shape.layers = 1;
    shape.width = shape.context = 8;
    shape.heads = 1;
    lm = mde_lm_create(c, corpus, &shape);
    mde_lm_write(lm, in_place("model.safetensors"));
    mde_lm_free(lm);
    mde_corpus_free(corpus);
}

static void read_lm(mde_context *c)
{
    mde_lm *lm;
    remove(in_place("config.json"));
    lm = mde_lm_open(c, in_place("model.safetensors"));
    must((lm != NULL) == (mde_context_status(c) == MDE_OK), "a model and an error, or neither");
    mde_lm_free(lm);
}

static void seed_checkpoint(mde_context *c)
{
    train_small(c, in_place("check.safetensors"));
}

static void seed_dagan(mde_context *c)
{
    dagan_images *set = dagan_images_draw(c, 3, 4, 8, 1);
    dagan_desc desc;
    dagan *g;
    memset(&desc, 0, sizeof desc);
    desc.preset = DAGAN_QUICK;
    g = dagan_create(c, set, &desc);
    dagan_write(g, in_place("dagan.safetensors"));
    dagan_free(g);
    dagan_images_free(set);
}

static void read_dagan(mde_context *c)
{
    dagan *g = dagan_open(c, in_place("dagan.safetensors"));
    must((g != NULL) == (mde_context_status(c) == MDE_OK), "networks and an error, or neither");
    dagan_free(g);
}

static void train_dagan(mde_context *c)
{
    dagan_images *set = dagan_images_draw(c, 3, 4, 8, 1);
    dagan_desc desc;
    dagan_train_desc train;
    dagan *g;
    memset(&desc, 0, sizeof desc);
    memset(&train, 0, sizeof train);
    desc.preset = DAGAN_QUICK;
    train.steps = train.critic_steps = 1;
    train.batch = 2;
    train.checkpoint = in_place("gan.checkpoint");
    g = dagan_create(c, set, &desc);
    if (g) dagan_train(g, set, &train);
    dagan_free(g);
    dagan_images_free(set);
}

static void seed_pnm(mde_context *c)
{
    static const char one[] = "P5\n# grey\n4 4\n255\nabcdefghijklmnop", two[] = "P6 2 2 255 abcdefghijkl";
    mde_make_folder(c, in_place("set/a"));
    mde_make_folder(c, in_place("set/b"));
    write_bytes(in_place("set/a/1.pgm"), one, sizeof one - 1);
    write_bytes(in_place("set/b/2.ppm"), two, sizeof two - 1);
}

/* The images of a folder are read, and every pixel touched. */
static void read_images(mde_context *c, const char *path)
{
    dagan_images_desc desc;
    dagan_images *set;
    memset(&desc, 0, sizeof desc);
    desc.path = path;
    set = dagan_images_open(c, &desc);
    must((set != NULL) == (mde_context_status(c) == MDE_OK), "images and an error, or neither");
    if (set) must(dagan_images_hash(set) != 0 && dagan_images_count(set) > 0, "images without an image");
    dagan_images_free(set);
}

static void read_folder(mde_context *c)
{
    read_images(c, in_place("set"));
}

static void seed_png(mde_context *c)
{
    unsigned char pixels[64];
    int i;
    for (i = 0; i < 64; i++) pixels[i] = (unsigned char)(i * 37);
    mde_make_folder(c, in_place("set/a"));
    mde_png_write(c, in_place("set/a/1.png"), 8, 8, 1, pixels);
}

static void seed_idx(mde_context *c)
{
    unsigned char images[16 + 4 * 9] = { 0, 0, 8, 3, 0, 0, 0, 4, 0, 0, 0, 3, 0, 0, 0, 3 };
    static const unsigned char labels[12] = { 0, 0, 8, 1, 0, 0, 0, 4, 0, 1, 0, 1 };
    int i;
    (void)c;
    for (i = 0; i < 36; i++) images[16 + i] = (unsigned char)(i * 7);
    write_bytes(in_place("images-idx3-ubyte"), images, sizeof images);
    write_bytes(in_place("labels-idx1-ubyte"), labels, sizeof labels);
}

static void read_idx(mde_context *c)
{
    read_images(c, in_place("images-idx3-ubyte"));
}

static void seed_array(mde_context *c)
{
    static const char header[] = "{'descr': '<f4', 'fortran_order': False, 'shape': (2, 2, 3, 3, 1), }       \n";
    unsigned char file[10 + sizeof header - 1 + 144] = { 0x93, 'N', 'U', 'M', 'P', 'Y', 1, 0 };
    float value;
    int i;
    (void)c;
    file[8] = (unsigned char)(sizeof header - 1);
    memcpy(file + 10, header, sizeof header - 1);
    for (i = 0; i < 36; i++) {
        value = (float)i / 36.0f;
        memcpy(file + 10 + sizeof header - 1 + 4 * (size_t)i, &value, 4);
    }
    write_bytes(in_place("images.npy"), file, sizeof file);
}

static void read_array(mde_context *c)
{
    read_images(c, in_place("images.npy"));
}

static void seed_runs(mde_context *c)
{
    static const char a[] = "run,web,code\n1,.25,.75\n2,.5,.5\n\"3\",1,0\n", b[] = "run,loss\n1,3.5\n3,nan\n2,\n";
    (void)c;
    write_bytes(in_place("ratios.csv"), a, sizeof a - 1);
    write_bytes(in_place("losses.csv"), b, sizeof b - 1);
}

static void read_runs(mde_context *c)
{
    mde_runs *runs = mde_runs_open(c, in_place("ratios.csv"), in_place("losses.csv"));
    must((runs != NULL) == (mde_context_status(c) == MDE_OK), "runs and an error, or neither");
    mde_runs_free(runs);
}

static void run_lab(const char *command)
{
    run_program(23, "mde_lab", command, in_place("lab"), "--layers", "1", "--width", "8", "--heads", "1", "--context",
                "8", "--batch", "2", "--tokens", "32", "--proxies", "6", "--validation-tokens", "64", "--questions", "4",
                "--threads=1", "--quiet");
}

static void seed_lab(mde_context *c)
{
    (void)c;
    run_lab("run");
}

static void read_plan(mde_context *c)
{
    experiment *x = experiment_open(c, in_place("lab"));
    must((x != NULL) == (mde_context_status(c) == MDE_OK), "an experiment and an error, or neither");
    experiment_free(x);
}

/* The finished runs of an experiment, of which this is one, as tables. */
static void read_task(mde_context *c)
{
    experiment *x = experiment_open(c, in_place("lab"));
    tables t;
    memset(&t, 0, sizeof t);
    if (x) load_tables(x, &t);
    if (x) tables_free(x, &t);
    experiment_free(x);
}

#endif

static const struct reader {
    const char *name, *file;                /* FILE is what the fuzzer writes; seed makes it, and what else is needed */
    void (*seed)(mde_context *c), (*read)(mde_context *c);
} readers[] = {
#ifdef FUZZ_MIX
    { "domains", "domains.csv", seed_tables, try_tables },
    { "ratios", "ratios.csv", seed_tables, try_tables },
    { "losses", "losses.csv", seed_tables, try_tables },
#else
    { "lm", "model.safetensors", seed_lm, read_lm },
    { "lm_checkpoint", "check.safetensors", seed_checkpoint, seed_checkpoint },
    { "dagan", "dagan.safetensors", seed_dagan, read_dagan },
    { "dagan_checkpoint", "gan.checkpoint", train_dagan, train_dagan },
    { "pgm", "set/a/1.pgm", seed_pnm, read_folder },
    { "ppm", "set/b/2.ppm", seed_pnm, read_folder },
    { "png", "set/a/1.png", seed_png, read_folder },
    { "idx", "images-idx3-ubyte", seed_idx, read_idx },
    { "idx_labels", "labels-idx1-ubyte", seed_idx, read_idx },
    { "array", "images.npy", seed_array, read_array },
    { "runs", "losses.csv", seed_runs, read_runs },
    { "plan", "lab/plan.json", seed_lab, read_plan },
    { "task", "lab/runs/proxy-002.safetensors", seed_lab, read_task },
    { "expert", "lab/runs/expert-code.safetensors", seed_lab, read_task },
#endif
    { NULL, NULL, NULL, NULL }
};
static const struct reader *reader;

static void start(void)
{
    const char *name = getenv("FUZZ_READER"), *folder = getenv("FUZZ_FOLDER");
    mde_context *c = small_context();
    snprintf(place, sizeof place, "%s/mde-fuzz-%ld", folder ? folder : "/tmp", (long)getpid());
    must(mkdir(place, 0700) == 0, "no temporary folder");
    for (reader = readers; reader->name; reader++) if (name && strcmp(name, reader->name) == 0) break;
    must(reader->name != NULL, "FUZZ_READER names no reader; see --list");
    reader->seed(c);
    must(mde_context_status(c) == MDE_OK, mde_error(c));
    must(mde_is_file(in_place(reader->file)), "the seed was not made");
    mde_context_free(c);
}

static void clean(void)
{
    char command[120];
    snprintf(command, sizeof command, "rm -rf %s", place);
    if (place[0] && system(command) != 0) fprintf(stderr, "fuzz_paths: %s stays\n", place);
}

static void one(const void *bytes, size_t size)
{
    mde_context *c = small_context();
    write_bytes(in_place(reader->file), bytes, size);
    reader->read(c);
    must(mde_context_status(c) == MDE_OK || mde_error(c)[0], "an error without a text");
    mde_context_free(c);
}

/* --list and --seed; 1 when it was one of them. */
static int other_work(int count, char **arguments)
{
    mde_context *c;
    unsigned char *bytes;
    size_t size;
    if (count > 1 && strcmp(arguments[1], "--list") == 0) {
        for (reader = readers; reader->name; reader++) printf("%s\n", reader->name);
        return 1;
    }
    start();
    if (count < 3 || strcmp(arguments[1], "--seed") != 0) return 0;
    c = mde_context_create(NULL);
    bytes = mde_file_read(c, in_place(reader->file), (size_t)1 << 30, &size);
    if (bytes) mde_file_write(c, arguments[2], bytes, size);
    must(mde_context_status(c) == MDE_OK, mde_error(c));
    mde_context_free(c);
    clean();
    return 1;
}

#ifdef LIBFUZZER

int LLVMFuzzerInitialize(int *count, char ***arguments);
int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerInitialize(int *count, char ***arguments)
{
    if (other_work(*count, *arguments)) exit(0);
    return 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    one(data, size);
    return 0;
}

#else

int main(int count, char **arguments)
{
    mde_context *c = mde_context_create(NULL);
    size_t size;
    int i, code;
    if (other_work(count, arguments)) return 0;
    for (i = 1; i < count; i++) {
        unsigned char *bytes = mde_file_read(c, arguments[i], (size_t)1 << 30, &size);
        if (bytes) one(bytes, size);
        mde_release(c, bytes);
    }
    code = mde_context_status(c) != MDE_OK;
    if (code) fprintf(stderr, "fuzz_paths: %s\n", mde_error(c));
    mde_context_free(c);
    clean();
    return code;
}

#endif
