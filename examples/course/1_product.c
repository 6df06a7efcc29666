/* Lesson 1: the derivative of a product.

   Every op that runs is written on a tape: what it was, what went in, what came out. Forwards, the tape computes y.
   Backwards, it computes the adjoints, the derivatives of y by each of these: an op hands the adjoint of its output on
   to its inputs, times the one derivative that it knows. A product u v hands v on to u and u on to v: the product rule.

     cc -O2 examples/course/1_product.c -o 1_product -lm && ./1_product

   Exercise: let y be the quotient u / v. Which adjoint becomes negative, and what is dy/dx at x = 1.5? */
#include "course.h"

int main(int argc, char **argv)
{
    const double at = 1.5, step = 1e-2;
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c);

    /* Forwards: y = u v with u = x x and v = exp(-x). A tensor with requires_grad is what we ask derivatives for. */
    mde_tensor *x = mde_scalar(c, at);
    if (x) x->requires_grad = 1;
    mde_tensor *u = mde_mul(c, x, x);
    mde_tensor *minus = mde_affine(c, x, -1, 0);
    mde_tensor *v = mde_exp(c, minus);
    mde_tensor *y = mde_mul(c, u, v);

    /* Backwards, once: the derivative of y with respect to each of them. The walk begins with dy/dy = 1. */
    mde_tensor *all[5] = { x, u, minus, v, y }, *adjoint[5];
    if (mde_grad(c, y, 5, all, adjoint, 0) != MDE_OK) return course_end(c, NULL, "");

    course_value values[5] = { { "x", 0.5, x, adjoint[0] }, { "u = x x", 0, u, adjoint[1] },
                               { "-x", 1, minus, adjoint[2] }, { "v = exp(-x)", 1, v, adjoint[3] },
                               { "y", 0.5, y, adjoint[4] } };
    printf("%-12s %-8s %10s %10s\n", "", "op", "value", "adjoint");
    for (int i = 0; i < 5; i++) {
        printf("%-12s %-8s %10.4f %10.4f\n", values[i].name, all[i]->node ? all[i]->node->op->name : "leaf",
               mde_item(all[i]), mde_item(adjoint[i]));
    }

    /* The same by hand, and by two more evaluations of y: a difference, which is only nearly right. */
    double up = (at + step) * (at + step) * exp(-at - step), down = (at - step) * (at - step) * exp(-at + step);
    printf("\ndy/dx by the tape           %.4f\n", mde_item(adjoint[0]));
    printf("u'v + u v' by hand          %.4f\n", 2 * at * exp(-at) - at * at * exp(-at));
    printf("(y(x+h) - y(x-h)) / 2h      %.4f\n", (up - down) / (2 * step));

    course_tape(picture, "The tape of y = u v: values forwards, adjoints backwards", 5, values);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/1_product.svg");
}
