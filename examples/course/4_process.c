/* Lesson 4: a Gaussian process, which says how sure it is. No network, no steps: the values of a function are taken to
   be jointly normal, alike at inputs that are near, by a kernel k(x, x') = exp(-(x - x')^2 / 2 l^2). Given values y at
   inputs x_i, with noise s,  mean(x) = k . K^-1 y  and  variance(x) = 1 - k . K^-1 k,  where k_i = k(x, x_i) and
   K_ij = k(x_i, x_j), plus s^2 if i = j; K = L L' with a triangular L. Far from the points the band is wide.

     cc -O2 examples/course/4_process.c -o 4_process -lm && ./4_process
   Exercise: print the log likelihood for length scales of 0.1, 0.2, 0.4, 0.8, 1.6 and 3.2. Which is the likeliest? */
#include "course.h"
#define POINTS 9
#define LINE 201

typedef struct process { double length, noise, x[POINTS], y[POINTS], l[POINTS][POINTS], solved[POINTS]; } process;

static double kernel(const process *p, double a, double b)
{
    return exp(-(a - b) * (a - b) / (2 * p->length * p->length));
}

/* out = L^-1 in, from the first row down. */
static void solve(const process *p, const double *in, double *out)
{
    for (int i = 0; i < POINTS; i++) {
        out[i] = in[i];
        for (int k = 0; k < i; k++) out[i] -= p->l[i][k] * out[k];
        out[i] /= p->l[i][i];
    }
}

/* Cholesky's K = L L', row by row. Returns the log likelihood: of the density that the process gives the points. */
static double fit(process *p)
{
    double log_likelihood = -0.5 * POINTS * log(2 * 3.14159265358979);
    for (int i = 0; i < POINTS; i++) {
        for (int j = 0; j <= i; j++) {
            double sum = kernel(p, p->x[i], p->x[j]) + (i == j ? p->noise * p->noise : 0);
            for (int k = 0; k < j; k++) sum -= p->l[i][k] * p->l[j][k];
            p->l[i][j] = i == j ? sqrt(sum) : sum / p->l[j][j];
        }
    }
    solve(p, p->y, p->solved);
    for (int i = 0; i < POINTS; i++) log_likelihood -= 0.5 * p->solved[i] * p->solved[i] + log(p->l[i][i]);
    return log_likelihood;
}

int main(int argc, char **argv)
{
    static double at[LINE], truth[LINE], mean[LINE], sd[LINE], low[LINE], high[LINE];
    process p = { 0.8, 0.1, { 0.1, 0.4, 0.8, 1.1, 1.5, 3.4, 3.7, 4.1, 4.4 }, { 0 }, { { 0 } }, { 0 } };
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c);
    mde_random random = mde_random_start(4, 0);
    int inside = 0, widest = 0;
    for (int i = 0; i < POINTS; i++) p.y[i] = sin(2 * p.x[i]) + p.noise * mde_random_normal(&random);
    printf("log likelihood of the points: %.2f\n", fit(&p));
    for (int t = 0; t < LINE; t++) {
        at[t] = 4.5 * t / (LINE - 1);
        truth[t] = sin(2 * at[t]);
        double k[POINTS], solved[POINTS], variance = 1;
        for (int i = 0; i < POINTS; i++) k[i] = kernel(&p, at[t], p.x[i]);
        solve(&p, k, solved);
        for (int i = 0; i < POINTS; i++) {          /* k . K^-1 k = (L^-1 k) . (L^-1 k), and so is the mean */
            mean[t] += solved[i] * p.solved[i];
            variance -= solved[i] * solved[i];
        }
        sd[t] = sqrt(variance);
        low[t] = mean[t] - 1.645 * sd[t];           /* a normal variable is in here with probability 0.9 */
        high[t] = mean[t] + 1.645 * sd[t];
        inside += truth[t] >= low[t] && truth[t] <= high[t];
        if (sd[t] > sd[widest]) widest = t;
    }
    printf("The function is inside the 90 %% band along %.0f %% of the line.\n", 100.0 * inside / LINE);
    printf("It is known worst at x = %.2f: %.2f +- %.2f. Measure there next.\n", at[widest], mean[widest], sd[widest]);
    plot_series series[3] = {
        { .name = "mean, 90 % band", .count = LINE, .x = at, .y = mean, .low = low, .high = high, .band = 1 },
        { .name = "function", .count = LINE, .x = at, .y = truth, .color = 7 },
        { .name = "points", .count = POINTS, .x = p.x, .y = p.y, .points = 1, .color = 2 } };
    plot_desc plot = { .title = "A Gaussian process on nine points", .x_label = "x", .count = 3, .series = series };
    plot_xy(picture, &plot);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/4_process.svg");
}
