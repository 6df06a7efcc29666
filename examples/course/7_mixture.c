/* Lesson 7: a mixture found. With weights w, three experts together give a character the probability sum_i w_i P_i, and
   a text has the loss L(w) = mean of -log sum_i w_i P_i. It is convex: there is one minimum, from wherever one starts.
   Its gradient is g_i = -mean(P_i / sum_k w_k P_k): how much better than the mixture expert i is, character by
   character. Multiply each w_i by -g_i: the loss falls with every step, the weights still sum to 1, and max_i(-g_i) - 1
   is at most how far the loss is above the minimum.

     cc -O2 examples/course/7_mixture.c -o 7_mixture -lm && ./7_mixture      (after lesson 6, in the same folder)

   Exercise: what is the best mixture with at most 30 % prose, and what would a little more of it be worth? The bounds
   are in mde_minimize_desc, the price in mde_optimum. */
#include "course.h"
#define EXPERTS 3
#define STEPS 40
#define SHOWN 4             /* steps that are marked */

/* All weight on the letter, none on the other texts. */
typedef struct task { mde_experts *experts; double objective[16]; } task;

static double loss(const double *weights, void *user)
{
    const task *t = (const task *)user;
    return mde_mixture_loss(t->experts, t->objective, weights, NULL);
}

int main(int argc, char **argv)
{
    double w[EXPERTS] = { 1.0 / 3, 1.0 / 3, 1.0 / 3 }, g[EXPERTS] = { 0 }, marks[SHOWN + 1][EXPERTS];
    const char *names[SHOWN + 1] = { "equal shares" }, *corners[EXPERTS];
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c);
    task letter = { mde_experts_open(c, "out/logprobs", NULL), { 0 } };
    mde_optimum best;
    if (mde_experts_count(letter.experts) != EXPERTS) return course_end(c, NULL, "");
    letter.objective[mde_experts_find_validation(letter.experts, "letter")] = 1;
    for (int i = 0; i < EXPERTS; i++) corners[i] = mde_experts_name(letter.experts, i);

    printf("%5s %10s %10s", "step", "loss", "above by");
    for (int i = 0; i < EXPERTS; i++) printf(" %9s", corners[i]);
    for (int step = 0; step <= STEPS; step++) {
        double value = mde_mixture_loss(letter.experts, letter.objective, w, g), gap = -1;
        for (int i = 0; i < EXPERTS; i++) gap = -g[i] - 1 > gap ? -g[i] - 1 : gap;
        if (step < SHOWN) memcpy(marks[step], w, sizeof w);
        if (step % 5 == 0) printf("\n%5d %10.5f %10.1e %9.4f %9.4f %9.4f", step, value, gap, w[0], w[1], w[2]);
        for (int i = 0; i < EXPERTS; i++) w[i] *= -g[i];
    }

    mde_minimize_desc minimize = { .objective = letter.objective };
    mde_mixture_minimize(letter.experts, &minimize, &best);
    printf("\nbest: %9.5f %10.1e", best.loss, best.gap);
    for (int i = 0; i < EXPERTS; i++) printf(" %9.4f", best.weights[i]);
    printf("\n");
    memcpy(marks[SHOWN], best.weights, sizeof marks[SHOWN]);
    names[SHOWN] = "best";
    plot_ternary(picture, "Loss of the letter, and the first steps to its minimum", corners, loss, &letter, SHOWN + 1,
                 marks[0], names);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/7_mixture.svg");
}
