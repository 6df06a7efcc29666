/* Lesson 6: three experts. Three small transformers learn to read one kind of text each: Newton's prose, a program,
   sums. Then each judges text of all three kinds that none has seen, and a letter that has something of each. The table
   has the means of -log P(character): each is the best at home, and none is made for the letter.

     cc -O2 examples/course/6_experts.c -o 6_experts -lm && ./6_experts      (from the repository's folder)

   What they said of every single character is kept in out/logprobs, for lesson 7.
   Exercise: add a fourth expert that learns from all three kinds alike, from as many characters. Where is it best? */
#include "course.h"
#define KINDS 3
#define EXPERTS 3
#define JUDGED 4            /* texts: one of each kind, and the letter */
#define LONGEST 4000        /* characters of a text that are judged */

static const char *const kinds[KINDS] = { "prose", "program", "sums" };
static const char *const experts[EXPERTS] = { "prose", "program", "sums" };
static const double diet[EXPERTS][KINDS] = { { 1, 0, 0 }, { 0, 1, 0 }, { 0, 0, 1 } };
static const char *const judged[JUDGED] = { "prose", "program", "sums", "letter" };
static const char letter[] =
    "Let the Angle of Incidence be equal to 12 + 30 = 42 Degrees, and that of Refraction be\n"
    "    double angle = 42, other = 0;\n    for (int i = 0; i < count; i++) other += angle * share[i];\n"
    "which makes the Ray more or less refracted in the same Proportion as before, namely as\n"
    "17 + 25 = 42\n38 + 44 = 82\n51 + 16 = 67\n"
    "to the whole Light; and this I take to be manifest by the first of the Experiments above.\n";

/* Every sum of two numbers below 100, in an order by chance. */
static void write_sums(mde_text *t)
{
    int64_t order[10000];
    mde_random random = mde_random_start(6, 0);
    mde_random_permutation(&random, 10000, order);
    for (int i = 0; i < 10000; i++) {
        int a = (int)order[i] / 100, b = (int)order[i] % 100;
        mde_text_format(t, "%d + %d = %d\n", a, b, a + b);
    }
}

int main(int argc, char **argv)
{
    static uint16_t tokens[JUDGED][LONGEST];
    static float logp[LONGEST];
    double losses[EXPERTS][JUDGED] = { { 0 } };
    size_t counts[JUDGED] = { 0, 0, 0, sizeof letter - 1 };
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c), *sums = mde_text_create(c);
    write_sums(sums);
    size_t lengths[KINDS] = { 0, 0, sums ? sums->length : 0 };
    const char *texts[KINDS] = { (char *)mde_file_read(c, "examples/data/opticks.txt", 1 << 20, &lengths[0]),
                                 (char *)mde_file_read(c, "examples/plot.h", 1 << 20, &lengths[1]),
                                 sums ? sums->bytes : NULL };
    mde_corpus_desc split = { .validation = 0.1 };
    mde_corpus *corpus = mde_corpus_from_texts(c, KINDS, kinds, texts, lengths, &split);
    for (int j = 0; j < KINDS; j++) {
        const uint16_t *held_out = mde_corpus_tokens(corpus, MDE_VALIDATION, j, &counts[j]);
        if (counts[j] > LONGEST) counts[j] = LONGEST;
        for (size_t t = 0; held_out && t < counts[j]; t++) tokens[j][t] = held_out[t];
    }
    for (size_t t = 0; t < sizeof letter - 1; t++) tokens[3][t] = (unsigned char)letter[t];
    for (int i = 0; i < EXPERTS && mde_context_status(c) == MDE_OK; i++) {
        mde_lm_desc model = { .layers = 2, .width = 64, .context = 64, .seed = 1 };
        mde_train_desc train = { .tokens = 300000, .weights = diet[i], .seed = 1, .progress = mde_print_progress };
        mde_lm *lm = mde_lm_create(c, corpus, &model);
        mde_lm_train(lm, corpus, &train);
        printf("the %s expert:", experts[i]);
        for (int j = 0; j < JUDGED && mde_lm_logprobs(lm, tokens[j], counts[j], logp) == MDE_OK; j++) {
            const int64_t shape[1] = { (int64_t)counts[j] - 1 };
            char path[100];
            for (size_t t = 1; t < counts[j]; t++) losses[i][j] -= (double)logp[t] / (double)shape[0];
            snprintf(path, sizeof path, "out/logprobs/%s", judged[j]);
            mde_make_folder(c, path);
            snprintf(path, sizeof path, "out/logprobs/%s/%s.npy", judged[j], experts[i]);
            mde_npy_write(c, path, 1, shape, logp + 1);        /* the first character was predicted by nobody */
            printf(" %.3f on %s%s", losses[i][j], judged[j], j + 1 < JUDGED ? "," : "\n");
        }
        mde_lm_free(lm);
    }
    plot_heat(picture, "Loss of each expert (row) on each text (column), nats a character", EXPERTS, experts, JUDGED,
              judged, losses[0], 1);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/6_experts.svg");
}
