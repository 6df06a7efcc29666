/* Lesson 5: a transformer, written out in ops. Each character looks back: its query is compared with the keys of those
   before it, a softmax makes weights of that, and their values are summed with these weights. Then each position thinks
   for itself, in a layer of neurons. Two rounds of this learn here to guess the next letter of Newton's Opticks.

     cc -O2 examples/course/5_transformer.c -o 5_transformer -lm && ./5_transformer     (from the repository's folder)

   Exercise: leave out the mask. The loss falls to almost nothing: why is the model worth nothing then? */
#include "course.h"
#define ROUNDS 2
#define WIDTH 64
#define LENGTH 64           /* characters of a window */
#define BATCH 12            /* windows of a step */
#define STEPS 1800
typedef struct transformer { mde_context *c; mde_params *params; mde_tensor *mask, *ones, *attention; } transformer;

/* x W, where W [rows, columns] is made when it is first asked for; W itself if x is NULL. */
static mde_tensor *times(transformer *m, mde_tensor *x, const char *name, int round, int64_t rows, int64_t columns)
{
    const int64_t shape[2] = { rows, columns };
    char key[32];
    snprintf(key, sizeof key, "%s%d", name, round);
    mde_tensor *w = mde_params_find(m->params, key);
    if (!w) w = mde_param(m->params, key, 2, shape, MDE_INIT_NORMAL, 1 / sqrt((double)rows));
    return x ? mde_matmul(m->c, x, w) : w;
}

/* Scores [windows * LENGTH, 256] of the character that follows each. */
static mde_tensor *logits(transformer *m, int64_t windows, const int32_t *characters)
{
    const int64_t rows[2] = { windows * LENGTH, WIDTH }, apart[3] = { windows, LENGTH, WIDTH };
    mde_context *c = m->c;
    mde_tensor *letters = times(m, NULL, "letters", 0, 256, WIDTH);
    mde_tensor *x = mde_reshape(c, mde_gather(c, letters, windows * LENGTH, characters), 3, apart);
    x = mde_add(c, x, times(m, NULL, "positions", 0, LENGTH, WIDTH));
    for (int i = 0; i < ROUNDS; i++) {
        mde_tensor *h = mde_rms_norm(c, x, m->ones, 1e-5);
        mde_tensor *query = times(m, h, "query", i, WIDTH, WIDTH), *key = times(m, h, "key", i, WIDTH, WIDTH);
        mde_tensor *scores = mde_affine(c, mde_matmul_t(c, query, key, 0, 1), 1 / sqrt(WIDTH), 0);
        m->attention = mde_softmax(c, mde_add(c, scores, m->mask));         /* [windows, LENGTH, LENGTH] */
        mde_tensor *found = mde_matmul(c, m->attention, times(m, h, "value", i, WIDTH, WIDTH));
        x = mde_add(c, x, times(m, found, "output", i, WIDTH, WIDTH));
        h = mde_silu(c, times(m, mde_rms_norm(c, x, m->ones, 1e-5), "up", i, WIDTH, 4 * WIDTH));
        x = mde_add(c, x, times(m, h, "down", i, 4 * WIDTH, WIDTH));
    }
    return mde_matmul_t(c, mde_reshape(c, mde_rms_norm(c, x, m->ones, 1e-5), 2, rows), letters, 0, 1);
}

int main(int argc, char **argv)
{
    static double losses[STEPS];
    int32_t in[BATCH * LENGTH], out[BATCH * LENGTH];
    size_t size = 0;
    mde_context *c = mde_context_create(NULL);
    unsigned char *text = mde_file_read(c, "examples/data/opticks.txt", 1 << 20, &size);
    mde_text *map = mde_text_create(c), *curve = mde_text_create(c);
    transformer m = { c, mde_params_create(c, 1), course_causal_mask(c, LENGTH), course_ones(c, WIDTH), NULL };
    mde_random random = mde_random_start(5, 0);
    mde_adamw_desc adam = { .learning_rate = 3e-3, .clip = 1 };
    for (int step = 0; step < STEPS && mde_context_status(c) == MDE_OK; step++) {
        mde_mark mark = mde_arena_mark(c);
        for (int i = 0, at = 0; i < BATCH * LENGTH; i++, at++) {
            if (i % LENGTH == 0) at = (int)mde_random_below(&random, size - LENGTH);
            in[i] = text[at];
            out[i] = text[at + 1];
        }
        mde_tensor *loss = mde_mean(c, mde_cross_entropy(c, logits(&m, BATCH, in), out));
        losses[step] = mde_item(loss);
        mde_params_zero_grad(m.params);
        mde_backward(c, loss);
        mde_adamw_step(m.params, &adam);
        if (step % 200 == 199) printf("step %4d: %.3f nats a character\n", step + 1, losses[step]);
        mde_arena_rewind(c, mark);
    }
    const char *line = "The Rays of Light are refracted by the Prism, and fall upon the Wall";
    for (int i = 0; i < LENGTH; i++) in[i] = line[i];
    logits(&m, 1, in);
    if (m.attention) course_attention(map, "What each character looks at", 29, line, m.attention->data, LENGTH);
    course_curve(curve, "Loss, nats a character", "step", STEPS, losses);
    return course_end(c, course_beside(c, map, curve), argc > 1 ? argv[1] : "out/5_transformer.svg");
}
