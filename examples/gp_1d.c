/* A Gaussian process learns a function from twelve noisy points, and says where it does not know it: the 90 % band
   widens between the points and beyond them. Writes gp_1d.svg.
     cc -O2 examples/gp_1d.c -o gp_1d -lm && ./gp_1d */
#include <math.h>
#include <stdio.h>
#define MDEDEF static /* what this program does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#if __has_include("../mdemix.h")   /* in the repository; a copy beside this file does as well */
#include "../mdemix.h"
#else
#include "mdemix.h"
#endif
#include "program.h"
#include "plot.h"

#define POINTS 12
#define LINE 200
#define NOISE 0.1

static double truth(double x)
{
    return sin(3 * x) + 0.5 * x;
}

int main(int argc, char **argv)
{
    double x[POINTS], y[POINTS], at[LINE], exact[LINE], mean[LINE], sd[LINE], low[LINE], high[LINE];
    program p;
    mde_context *c;
    mde_random random;
    mde_fit_desc fit = { .model = MDE_GP, .kernel = MDE_MATERN52, .normal_noise = 1, .seed = 1 };
    plot_series series[3] = {
        { .name = "function", .count = LINE, .x = at, .y = exact },
        { .name = "mean, 90 % band", .count = LINE, .x = at, .y = mean, .low = low, .high = high, .band = 1 },
        { .name = "points", .count = POINTS, .x = x, .y = y, .points = 1, .color = 4 },
    };
    plot_desc plot = { .title = "Gaussian process, Matern 5/2", .x_label = "x", .y_label = "y",
                       .count = 3, .series = series };
    mde_regressor *model;
    mde_text *svg;
    int i;

    program_start(&p, "gp_1d", "gp_1d: a Gaussian process on noisy points of a line; writes gp_1d.svg\n", NULL, 0);
    p.seed = 7;
    if (!program_parse(&p, argc, argv)) return p.code;
    c = program_context(&p);
    program_try_file(c, "gp_1d.svg");
    random = mde_random_start(p.seed, 0);
    for (i = 0; i < POINTS; i++) {
        x[i] = 4 * mde_random_uniform(&random);
        y[i] = truth(x[i]) + NOISE * mde_random_normal(&random);
    }
    for (i = 0; i < LINE; i++) {
        at[i] = -0.5 + 5.0 * i / (LINE - 1);
        exact[i] = truth(at[i]);
    }
    model = mde_regressor_fit(c, POINTS, 1, 1, x, y, &fit);
    mde_regressor_predict(model, LINE, at, mean, sd);
    if (program_failed(c)) return program_end(&p, c);
    for (i = 0; i < LINE; i++) {
        low[i] = mean[i] - 1.645 * sd[i];
        high[i] = mean[i] + 1.645 * sd[i];
    }
    svg = mde_text_create(c);
    plot_xy(svg, &plot);
    if (mde_text_write(svg, "gp_1d.svg") != MDE_OK) return program_end(&p, c);
    printf("length scale %.3f sds of x, log marginal likelihood %.3f; gp_1d.svg is written\n",
           mde_regressor_length_scale(model, 0, 0), mde_regressor_log_likelihood(model, 0));
    return program_end(&p, c);
}
