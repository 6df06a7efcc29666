/* Lesson 2: the second derivative, and what it is good for.

   f' is computed by ops, too. Record them, and the tape goes on: f' can be differentiated like anything else. To find a
   minimum, gradient descent steps downhill by a fixed multiple of f', since f' does not say how far. Newton's method
   divides f' by f'': it follows the tangent of f' to where that is zero, and near the minimum doubles the right digits
   with each step. (Let it start at 1 instead of 0.7, where f' is flatter, and see what becomes of it.)

     cc -O2 examples/course/2_curvature.c -o 2_curvature -lm && ./2_curvature

   Exercise: take the third derivative and print it at the minimum, where it is -2. */
#include "course.h"
#define LINE 121
#define STEPS 6

/* f(x) = log(exp(x) + exp(-2x)), whose minimum is at x = log(2) / 3, with its first two derivatives. */
static void evaluate(mde_context *c, double at, double f[3])
{
    mde_mark mark = mde_arena_mark(c);
    mde_tensor *x = mde_scalar(c, at), *slope, *curvature;
    if (x) x->requires_grad = 1;
    mde_tensor *y = mde_log(c, mde_add(c, mde_exp(c, x), mde_exp(c, mde_affine(c, x, -2, 0))));
    mde_grad(c, y, 1, &x, &slope, 1);              /* 1: record how it is computed */
    mde_grad(c, slope, 1, &x, &curvature, 0);
    f[0] = mde_item(y);
    f[1] = mde_item(slope);
    f[2] = mde_item(curvature);
    mde_arena_rewind(c, mark);                     /* all tensors since the mark are gone */
}

int main(int argc, char **argv)
{
    static double at[LINE], curves[3][LINE];
    const double minimum = log(2.0) / 3, start = 0.7, rate = 0.2;
    double newton = start, descent = start, f[3], zigzag_x[2 * STEPS], zigzag_y[2 * STEPS];
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c);

    for (int i = 0; i < LINE; i++) {
        at[i] = -1 + 2.5 * i / (LINE - 1);
        evaluate(c, at[i], f);
        for (int k = 0; k < 3; k++) curves[k][i] = f[k];
    }

    printf("The minimum of log(exp(x) + exp(-2x)) is at log(2) / 3 = %.6f.\n\n", minimum);
    printf("%6s %26s %26s\n", "", "Newton's method", "gradient descent");
    printf("%6s %14s %11s %14s %11s\n", "step", "x", "error", "x", "error");
    for (int i = 0; i < STEPS; i++) {
        printf("%6d %14.6f %11.1e %14.6f %11.1e\n", i, newton, fabs(newton - minimum), descent,
               fabs(descent - minimum));
        zigzag_x[2 * i] = zigzag_x[2 * i + 1] = newton;
        zigzag_y[2 * i] = 0;                       /* from the axis to the curve f', then down its tangent */
        evaluate(c, newton, f);
        zigzag_y[2 * i + 1] = f[1];
        newton -= f[1] / f[2];
        evaluate(c, descent, f);
        descent -= rate * f[1];
    }

    plot_series series[4] = {
        { .name = "f", .count = LINE, .x = at, .y = curves[0] },
        { .name = "f'", .count = LINE, .x = at, .y = curves[1] },
        { .name = "f''", .count = LINE, .x = at, .y = curves[2] },
        { .name = "Newton's steps", .count = 2 * STEPS, .x = zigzag_x, .y = zigzag_y, .color = 7 },
    };
    plot_desc plot = { .title = "Newton's method goes down the tangents of f' to its zero", .x_label = "x", .count = 4,
                       .series = series };
    plot_xy(picture, &plot);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/2_curvature.svg");
}
