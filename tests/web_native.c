/* The functions of examples/web/page.c compiled by a C compiler: the same calls as a visitor's clicks make, whose
   answers check_web.sh compares with the page's. Run where the files are that the page has and what the visitor did is
   kept; writes a file an answer. Given arguments, it is mix_optimize. */
#include "../examples/web/page.c"

static void keep(const char *name, const char *answer)
{
    char path[64];
    FILE *file;
    snprintf(path, sizeof path, "answers/%s.json", name);
    file = fopen(path, "wb");
    if (!file || fputs(answer, file) < 0 || fclose(file) != 0) exit(1);
}

/* The z of an answer of page_noise. */
static void read_noise(const char *answer, float *z)
{
    const char *at = strchr(answer, '[');
    int i;
    for (i = 0; i < 32; i++) {
        char *end;
        z[i] = strtof(at + 1, &end);
        at = end;
    }
}

/* What the visitor did: so many bytes of a file. */
static void read_input(const char *path, void *bytes, size_t size)
{
    FILE *file = fopen(path, "rb");
    if (!file || fread(bytes, 1, size, file) != size) exit(1);
    fclose(file);
}

int main(int argc, char **argv)
{
    static unsigned char ink[84 * 84];
    double weights[5], mixture[3], leaves[3];
    page *p;
    float z[32];
    char name[32];
    int i;
    if (argc > 1) return mix_optimize_main(argc, argv);
    p = page_open();
    if (!p) return 1;
    mde_make_folder(p->c, "answers");
    read_input("weights.bin", weights, sizeof weights);
    read_input("mixture.bin", mixture, sizeof mixture);
    read_input("leaves.bin", leaves, sizeof leaves);
    read_input("ink.bin", ink, sizeof ink);
    keep("rubbish", page_mix(p, "rubbish.csv", "losses.csv", "", 0, 0, 4));
    keep("mix", page_mix(p, "ratios.csv", "losses.csv", "domains.csv", 1e12, 4, 4));
    keep("predict", page_predict(p, weights));
    page_lesson(p, "prose.txt", "program.txt");
    for (i = 0; i < STEPS / 10; i++) keep("lesson", page_lesson_go(p, 10));
    keep("lesson_at", page_lesson_at(p, mixture));
    keep("draw", page_draw(p, ink));
    for (i = 0; i < 10; i++) {
        snprintf(name, sizeof name, "make%d", i);
        read_noise(page_noise(p, "generator.safetensors", 1, i), z);
        keep(name, page_make(p, "generator.safetensors", z));
    }
    keep("tape", page_tape(p, 1, leaves));
    return 0;
}
