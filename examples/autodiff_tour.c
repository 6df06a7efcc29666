/* A tour of differentiation: first and second derivatives beside the exact ones, a gradient checked by differences, and
   a gradient penalty, which is a derivative of a derivative.
     cc -O2 examples/autodiff_tour.c -o autodiff_tour -lm && ./autodiff_tour */
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
#define POINTS 5

/* f(x) = x exp(-x^2 / 2), with f' = (1 - x^2) e and f'' = (x^3 - 3x) e, e = exp(-x^2 / 2). */
static mde_tensor *bump(mde_context *c, mde_tensor *x)
{
    return mde_mul(c, x, mde_exp(c, mde_affine(c, mde_mul(c, x, x), -0.5, 0)));
}

/* A small network from [1,2] to a scalar. */
static mde_tensor *network(mde_context *c, mde_tensor *x, mde_tensor *w1, mde_tensor *w2)
{
    return mde_matmul(c, mde_tanh(c, mde_matmul(c, x, w1)), w2);
}

int main(int argc, char **argv)
{
    const float at[POINTS] = { -1.5f, -0.5f, 0, 0.5f, 1.5f };
    const float point[2] = { 0.3f, -0.7f }, first_layer[6] = { 0.5f, -1, 0.8f, 0.3f, 0.9f, -0.4f };
    const float second_layer[3] = { 1, 0.5f, -0.7f };
    const int64_t points[1] = { POINTS }, row[2] = { 1, 2 }, w1_shape[2] = { 2, 3 }, w2_shape[2] = { 3, 1 };
    program p;
    program_start(&p, "autodiff_tour", "autodiff_tour: derivatives, first and second, beside exact ones\n", NULL, 0);
    if (!program_parse(&p, argc, argv)) return p.code;
    mde_context *c = program_context(&p);

    /* 1. mde_grad with record = 1 gives a derivative that can be differentiated again. Each f(x[i]) depends on x[i]
          alone, so the gradient of their sum holds f'(x[i]). */
    mde_tensor *x = mde_tensor_from(c, 1, points, at), *f, *slope, *curvature;
    if (x) x->requires_grad = 1;
    f = bump(c, x);
    mde_grad(c, f, 1, &x, &slope, 1);
    mde_grad(c, slope, 1, &x, &curvature, 0);
    printf("      x       f(x)      f'(x)      exact     f''(x)      exact\n");
    for (int i = 0; curvature && i < POINTS; i++) {
        double t = (double)at[i], e = exp(-t * t / 2);
        printf("%7.2f %10.6f %10.6f %10.6f %10.6f %10.6f\n", t, (double)f->data[i], (double)slope->data[i],
               (1 - t * t) * e, (double)curvature->data[i], (t * t * t - 3 * t) * e);
    }

    /* 2. The gradient of a network by its input, and central differences: two more forward passes a number. */
    mde_tensor *input = mde_tensor_from(c, 2, row, point), *by_input;
    mde_tensor *w[2] = { mde_tensor_from(c, 2, w1_shape, first_layer), mde_tensor_from(c, 2, w2_shape, second_layer) };
    if (input && w[0] && w[1]) input->requires_grad = w[0]->requires_grad = w[1]->requires_grad = 1;
    mde_grad(c, network(c, input, w[0], w[1]), 1, &input, &by_input, 1);
    printf("\n  input   gradient  by differences\n");
    for (int i = 0; by_input && i < 2; i++) {
        float moved[2] = { point[0], point[1] };
        const float step = 1.0f / 64;
        moved[i] = point[i] + step;
        double up = mde_item(network(c, mde_tensor_from(c, 2, row, moved), w[0], w[1]));
        moved[i] = point[i] - step;
        double down = mde_item(network(c, mde_tensor_from(c, 2, row, moved), w[0], w[1]));
        printf("%7d %10.6f %15.6f\n", i, (double)by_input->data[i], (up - down) / (2 * (double)step));
    }

    /* 3. A gradient penalty, (|df/dx| - 1)^2, and what the weights would have to do to lower it. */
    mde_tensor *excess = mde_sqrt(c, mde_sum(c, mde_mul(c, by_input, by_input))), *penalty, *by_weights[2];
    excess = mde_affine(c, excess, 1, -1);
    penalty = mde_mul(c, excess, excess);
    mde_grad(c, penalty, 2, w, by_weights, 0);
    printf("\ngradient penalty %.6f; its gradient by the second layer:", mde_item(penalty));
    for (int i = 0; by_weights[1] && i < 3; i++) printf(" %.6f", (double)by_weights[1]->data[i]);
    printf("\n");

    /* The first error sticks, and everything after it did nothing: one check is enough. */
    return program_end(&p, c);
}
