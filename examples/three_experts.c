/* Three experts, one per language, each a table of letter pairs learned from a few sentences. Which mixture of them
   fits a letter that is written in all three? Prints the answer and draws the loss of every mixture with the best one.
     cc -O2 examples/three_experts.c -o three_experts -lm && ./three_experts          (writes three_experts.svg) */
#include <math.h>
#include <stdio.h>
#include <string.h>
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h")   /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif
#include "program.h"
#include "plot.h"

#define MOST_TOKENS 1000

static const char *const languages[3] = { "English", "German", "Italian" };
static const char *const lessons[3] = {
    "the old house stands near the river and the children play there when the weather is good. in the evening their "
    "mother calls them home, they wash their hands and sit down to eat bread with butter and cheese. what is left over "
    "goes to the dog, who waits under the table. then the light is put out and the whole house sleeps. ",
    "das alte haus steht nahe am fluss und die kinder spielen dort, wenn das wetter gut ist. am abend ruft die mutter "
    "sie nach hause, sie waschen sich die haende und setzen sich hin, um brot mit butter und kaese zu essen. was "
    "uebrig bleibt, bekommt der hund, der unter dem tisch wartet. dann geht das licht aus und das haus schlaeft. ",
    "la vecchia casa sta vicino al fiume e i bambini giocano li quando il tempo e bello. la sera la madre li chiama a "
    "casa, si lavano le mani e si siedono per mangiare pane con burro e formaggio. quello che avanza va al cane, che "
    "aspetta sotto la tavola. poi si spegne la luce e tutta la casa dorme. "
};
static const char *const letter =
    "dear friend, we have been walking by the lake all morning and now we rest in the shade of a great tree. the water "
    "is still cold, but the others want to swim after lunch. morgen wollen wir mit dem schiff auf die andere seite "
    "fahren und dort ein zimmer suchen. la gente qui canta volentieri. ";

/* Natural-log probability of each letter of text after the one before it, from the pairs counted in the lesson. */
static void judge(const char *lesson, const char *text, float *logp)
{
    double pairs[128][128], after[128];
    int a, b;
    for (a = 0; a < 128; a++) {
        for (b = 0; b < 128; b++) pairs[a][b] = 0.05;       /* so that no pair is impossible */
        after[a] = 128 * 0.05;
    }
    for (; lesson[1]; lesson++) {
        pairs[lesson[0] & 127][lesson[1] & 127] += 1;
        after[lesson[0] & 127] += 1;
    }
    for (; text[1]; text++) *logp++ = (float)log(pairs[text[0] & 127][text[1] & 127] / after[text[0] & 127]);
}

static double loss(const double *weights, void *experts)
{
    return mde_mixture_loss((const mde_experts *)experts, NULL, weights, NULL);
}

int main(int argc, char **argv)
{
    static float table[3][MOST_TOKENS];
    const float *logp[3] = { table[0], table[1], table[2] };
    const char *mark = "best";
    program p;
    mde_context *c;
    mde_experts *experts;
    mde_text *picture;
    mde_optimum best;
    int i;

    program_start(&p, "three_experts", "three_experts: the languages of a letter; writes three_experts.svg\n", NULL,
                  0);
    if (!program_parse(&p, argc, argv)) return p.code;
    c = program_context(&p);
    experts = mde_experts_create(c, 3, languages);
    picture = mde_text_create(c);
    for (i = 0; i < 3; i++) judge(lessons[i], letter, table[i]);
    mde_experts_add(experts, "letter", strlen(letter) - 1, logp, NULL, 0);
    mde_mixture_minimize(experts, NULL, &best);
    plot_ternary(picture, "Loss of the letter, nats a character", languages, loss, experts, 1, best.weights, &mark);
    if (mde_text_write(picture, "three_experts.svg") != MDE_OK) return program_end(&p, c);
    printf("%-10s %12s %12s\n", "expert", "loss alone", "best weight");
    for (i = 0; i < 3; i++) {
        double alone[3] = { 0, 0, 0 };
        alone[i] = 1;
        printf("%-10s %12.4f %12.4f\n", languages[i], loss(alone, experts), best.weights[i]);
    }
    printf("%-10s %12.4f   at most %.1e above the minimum\n", "mixture", best.loss, best.gap);
    printf("three_experts.svg shows the loss of every mixture\n");
    return program_end(&p, c);
}
