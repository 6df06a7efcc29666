/* Lesson 3: a neuron and its decision boundary.

   A neuron weighs what it sees, adds a bias and says with which probability a point is of the second kind:
   P = sigmoid(w1 x + w2 y + b). Training lowers the mean of -log P(right answer) by small steps against its gradient.
   P = 1/2 where w1 x + w2 y + b = 0: one neuron parts the plane along a straight line, and can do nothing else.

     cc -O2 examples/course/3_neuron.c -o 3_neuron -lm && ./3_neuron

   Exercise: let the second kind lie around the first one, on a ring of radius 2. Let the neuron look through a hidden
   layer of eight tanh neurons, and reach 95 % right answers. */
#include "course.h"
#define EACH 100            /* points of each kind */
#define STEPS 400

typedef struct network { mde_context *c; mde_tensor *w, *b; } network;

/* Scores [n, 1] of points [n, 2]: above 0 for the second kind. */
static mde_tensor *score(const network *net, mde_tensor *points)
{
    return mde_add(net->c, mde_matmul(net->c, points, net->w), net->b);
}

/* The probability at one point, for the picture. */
static double probability(double x, double y, void *user)
{
    const network *net = (const network *)user;
    return mde_item(mde_sigmoid(net->c, score(net, course_point(net->c, x, y))));
}

int main(int argc, char **argv)
{
    static float points[2 * EACH][2], sign[2 * EACH];
    static double x[2][EACH], y[2][EACH];
    const int64_t all[2] = { 2 * EACH, 2 }, column[2] = { 2 * EACH, 1 }, weights[2] = { 2, 1 }, bias[1] = { 1 };
    const double half = 0.5;
    mde_context *c = mde_context_create(NULL);
    mde_text *picture = mde_text_create(c);
    mde_params *params = mde_params_create(c, 1);
    network net = { c, mde_param(params, "w", 2, weights, MDE_INIT_NORMAL, 0.1),
                    mde_param(params, "b", 1, bias, MDE_INIT_ZEROS, 0) };
    mde_random random = mde_random_start(1, 0);
    int right = 0;

    for (int i = 0; i < 2 * EACH; i++) {
        int kind = i % 2;
        points[i][0] = (float)(x[kind][i / 2] = (kind ? 1 : -1) + 0.8 * mde_random_normal(&random));
        points[i][1] = (float)(y[kind][i / 2] = (kind ? 0.5 : -0.5) + 0.8 * mde_random_normal(&random));
        sign[i] = kind ? 1 : -1;
    }

    printf("%6s %10s\n", "step", "loss");
    for (int step = 0; step <= STEPS; step++) {
        mde_mark mark = mde_arena_mark(c);
        mde_tensor *kind = mde_tensor_from(c, 2, column, sign), *seen = mde_tensor_from(c, 2, all, points[0]);
        mde_tensor *s = mde_mul(c, kind, score(&net, seen));        /* above 0 where the answer is right */
        mde_tensor *loss = mde_affine(c, mde_mean(c, mde_log(c, mde_sigmoid(c, s))), -1, 0);
        for (int i = right = 0; s && i < 2 * EACH; i++) right += s->data[i] > 0;
        if (step % 50 == 0) printf("%6d %10.4f\n", step, mde_item(loss));
        mde_params_zero_grad(params);
        mde_backward(c, loss);                     /* fills the gradient of each parameter */
        for (int k = 0; k < mde_params_count(params); k++) {        /* parameter -= 0.3 gradient */
            mde_tensor *p = mde_params_tensor(params, k);
            for (size_t i = 0; i < p->count; i++) p->data[i] -= 0.3f * p->grad[i];
        }
        mde_arena_rewind(c, mark);
    }
    printf("\n%d of %d points are on their side of the boundary", right, 2 * EACH);
    if (net.w && net.b) printf(", %.2f x %+.2f y %+.2f = 0", (double)net.w->data[0], (double)net.w->data[1],
                                (double)net.b->data[0]);
    printf("\n");

    plot_series series[2] = { { .name = "first kind", .count = EACH, .x = x[0], .y = y[0], .points = 1, .color = 2 },
                              { .name = "second kind", .count = EACH, .x = x[1], .y = y[1], .points = 1, .color = 7 } };
    plot_desc plot = { .title = "P(second kind), and where it is 1/2", .width = 640, .height = 480, .count = 2,
                       .series = series, .field = probability, .user = &net, .levels = 1, .level = &half };
    plot_xy(picture, &plot);
    return course_end(c, picture, argc > 1 ? argv[1] : "out/3_neuron.svg");
}
