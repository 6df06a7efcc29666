/* course.h - what the lessons have in common: the two headers that they stand on, and how a lesson ends. A lesson
   describes its picture into a text; course_end writes it and says where it is. */
#ifndef MDEMIX_COURSE_H
#define MDEMIX_COURSE_H

#include <math.h>
#include <stdio.h>
#include <string.h>
#define MDEDEF static /* what a lesson does not call is not compiled */
#define MDEMIX_IMPLEMENTATION
#ifdef DAGAN_IMPLEMENTATION
#include "../../dagan.h"
#else
#include "../../mdemix.h"
#endif
#include "../plot.h"

#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

/* Writes the picture, frees the context and all that was made from it, and gives main's result: 1 after an error, of
   which the context kept the first. A path without a folder in it is a file of the folder where the lesson runs. */
static int course_end(mde_context *c, mde_text *picture, const char *path)
{
    char folder[1024];
    size_t length;
    int failed;
    snprintf(folder, sizeof folder, "%s", path);
    folder[mde_path_name(folder, &length) - folder] = 0;
    if (folder[0]) mde_make_folder(c, folder);
    if (picture) mde_text_write(picture, path);
    failed = mde_context_status(c) != MDE_OK;
    if (failed) fprintf(stderr, "error: %s\n", mde_error(c));
    else printf("\nThe picture is %s\n", path);
    mde_context_free(c);
    return failed;
}

/* A finished picture at (x, y) inside another; returns its width, and its height in *height. */
static double course_place(mde_text *t, const mde_text *picture, double x, double y, double *height)
{
    const char *size = picture ? strstr(picture->bytes, " width=\"") : NULL;
    double width = 0;
    *height = 0;
    if (!size || sscanf(size, " width=\"%lf\" height=\"%lf\"", &width, height) != 2) return 0;
    mde_text_format(t, "<svg x=\"%g\" y=\"%g\"%s", x, y, picture->bytes + strlen("<svg"));
    return width;
}

/* Two pictures side by side. */
static mde_text *course_beside(mde_context *c, const mde_text *left, const mde_text *right)
{
    mde_text *inner = mde_text_create(c), *t = mde_text_create(c);
    double heights[2], width = course_place(inner, left, 0, 0, &heights[0]);
    width += course_place(inner, right, width, 0, &heights[1]);
    if (!inner || !t || mde_context_status(c)) return NULL;
    plot_open(t, width, heights[0] > heights[1] ? heights[0] : heights[1], "");
    mde_text_add(t, inner->bytes);
    plot_close(t);
    mde_text_free(inner);
    return t;
}

/* Values at 1, 2, .. count as a curve. */
static void course_curve(mde_text *t, const char *title, const char *x_label, int count, const double *values)
{
    double *x = t ? (double *)mde_alloc(t->context, (size_t)count, sizeof *x) : NULL;
    plot_series series;
    plot_desc plot;
    int i;
    if (!x) return;
    for (i = 0; i < count; i++) x[i] = i + 1;
    memset(&series, 0, sizeof series);
    memset(&plot, 0, sizeof plot);
    series.count = count;
    series.x = x;
    series.y = values;
    plot.title = title;
    plot.x_label = x_label;
    plot.width = 420;
    plot.count = 1;
    plot.series = &series;
    plot_xy(t, &plot);
    mde_release(t->context, x);
}

/* ---- Points of the plane ---- */

/* One point as a tensor [1, 2]. */
static mde_tensor *course_point(mde_context *c, double x, double y)
{
    const int64_t shape[2] = { 1, 2 };
    float point[2];
    point[0] = (float)x;
    point[1] = (float)y;
    return mde_tensor_from(c, 2, shape, point);
}

/* The columns of points [n, 2], to be drawn. */
static void course_columns(const mde_tensor *points, double *x, double *y)
{
    int64_t i;
    for (i = 0; points && i < points->shape[0]; i++) {
        x[i] = (double)points->data[2 * i];
        y[i] = (double)points->data[2 * i + 1];
    }
}

/* ---- For a transformer ---- */

/* Of every pair of a reader (row) and a character (column): 0, or -1e9 where the character comes after the reader, so
   that softmax gives it no weight. */
static mde_tensor *course_causal_mask(mde_context *c, int64_t n)
{
    const int64_t shape[2] = { n, n };
    mde_tensor *mask = mde_tensor_create(c, 2, shape);
    int64_t i;
    for (i = 0; mask && i < n * n; i++) mask->data[i] = i % n > i / n ? -1e9f : 0;
    return mask;
}

static mde_tensor *course_ones(mde_context *c, int64_t n)
{
    mde_tensor *ones = mde_tensor_create(c, 1, &n);
    int64_t i;
    for (i = 0; ones && i < n; i++) ones->data[i] = 1;
    return ones;
}

/* A table of colours: row i is what character i of the text sees of those up to itself; weights [.., stride]. */
static void course_attention(mde_text *t, const char *title, int count, const char *text, const float *weights,
                             int64_t stride)
{
    const double cell = 16, left = 50, top = 62;
    int i, k;
    if (!t || !weights || mde_context_status(t->context)) return;
    plot_open(t, left + cell * count + 30, top + cell * count + 30, title);
    for (i = 0; i < count; i++) {
        char name[2], color[8];
        name[0] = (char)(text[i] == ' ' || text[i] == '\n' ? '_' : text[i]);
        name[1] = 0;
        plot_text(t, left - 12, top + cell * (i + 0.75), "middle", 12, "", name);
        plot_text(t, left + cell * (i + 0.5), top - 8, "middle", 12, "", name);
        for (k = 0; k < count; k++) {
            double share = (double)weights[i * stride + k];
            plot_ramp_color(share > 0 ? sqrt(share) : 0, color);
            if (k <= i || share > 0) plot_rect(t, left + cell * k, top + cell * i, cell - 1, cell - 1, color, "");
        }
    }
    plot_close(t);
}

/* ---- A network of fully connected layers ---- */

#define COURSE_LAYERS 3

typedef struct course_network { mde_params *params; mde_tensor *w[COURSE_LAYERS], *b[COURSE_LAYERS]; } course_network;

/* Two hidden layers of the given width. */
static course_network course_network_create(mde_context *c, int64_t inputs, int64_t width, int64_t outputs,
                                            uint64_t seed)
{
    course_network net;
    char name[8];
    int i;
    net.params = mde_params_create(c, seed);
    for (i = 0; i < COURSE_LAYERS; i++) {
        int64_t shape[2];
        shape[0] = i ? width : inputs;
        shape[1] = i + 1 < COURSE_LAYERS ? width : outputs;
        snprintf(name, sizeof name, "w%d", i);
        net.w[i] = mde_param(net.params, name, 2, shape, MDE_INIT_NORMAL, sqrt(2.0 / (double)shape[0]));
        name[0] = 'b';
        net.b[i] = mde_param(net.params, name, 1, shape + 1, MDE_INIT_ZEROS, 0);
    }
    return net;
}

/* x [n, inputs] to [n, outputs]. */
static mde_tensor *course_network_apply(mde_context *c, const course_network *net, mde_tensor *x)
{
    int i;
    for (i = 0; i < COURSE_LAYERS; i++) {
        x = mde_linear(c, x, net->w[i], 0, net->b[i], NULL);
        if (i + 1 < COURSE_LAYERS) x = mde_silu(c, x);
    }
    return x;
}

/* ---- Images ---- */

#define COURSE_SHADES 8

/* Shade of a pixel from -1, paper, to 1, ink: 0 .. COURSE_SHADES. */
static int course_shade(float pixel)
{
    double share = ((double)pixel + 1) / 2;
    return share <= 0 ? 0 : share >= 1 ? COURSE_SHADES : (int)(share * COURSE_SHADES + 0.5);
}

/* A grey image [size, size] at (x, y), in squares of `pixel`; neighbours of one shade in a row are one shape. */
static void course_image(mde_text *t, double x, double y, double pixel, int size, const float *pixels)
{
    int shade, row, column;
    plot_rect(t, x, y, pixel * size, pixel * size, "#ffffff", " stroke=\"#cccccc\"");
    for (shade = 1; shade <= COURSE_SHADES; shade++) {
        int any = 0;
        for (row = 0; row < size; row++) {
            const float *line = pixels + row * size;
            for (column = 0; column < size; column++) {
                int start = column;
                if (course_shade(line[column]) != shade) continue;
                while (column + 1 < size && course_shade(line[column + 1]) == shade) column++;
                if (!any) mde_text_format(t, "<path fill-opacity=\"%.3g\" d=\"", (double)shade / COURSE_SHADES);
                any = 1;
                mde_text_format(t, "M%g %gh%gv%gh%gz", x + pixel * start, y + pixel * row, pixel * (column + 1 - start),
                                pixel, -pixel * (column + 1 - start));
            }
        }
        if (any) mde_text_add(t, "\"/>\n");
    }
}

/* ---- The tape as a graph ---- */

/* One tensor of a computation, the derivative of the result with respect to it, what to call it, and the row to draw it
   in, from 0 at the top, which may lie between two. */
typedef struct course_value { const char *name; double row; const mde_tensor *value, *adjoint; } course_value;

/* How many ops a tensor is away from the furthest leaf. */
static int course_depth(const mde_tensor *t)
{
    int deepest = -1, i;
    if (!t || !t->node) return 0;
    for (i = 0; i < t->node->op->inputs; i++) {
        int depth = course_depth(t->node->in[i]);
        if (depth > deepest) deepest = depth;
    }
    return deepest + 1;
}

/* A box for each scalar of `values`, inputs at the left and the result at the right: its name, the op that made it, its
   value, and below, in orange, its adjoint. An arrow runs from every input of an op to its output. */
static void course_tape(mde_text *t, const char *title, int count, const course_value *values)
{
    const double wide = 130, high = 84, across = 190, down = 120;
    double x[16], y[16], right = 0, bottom = 0;
    int i, j, k;
    if (!t || count > 16 || mde_context_status(t->context)) return;
    for (i = 0; i < count; i++) {
        x[i] = 20 + across * course_depth(values[i].value);
        y[i] = 50 + down * values[i].row;
        if (x[i] + wide + 20 > right) right = x[i] + wide + 20;
        if (y[i] + high + 20 > bottom) bottom = y[i] + high + 20;
    }
    plot_open(t, right, bottom, title);
    for (i = 0; i < count; i++) {
        const mde_node *node = values[i].value->node;
        for (k = 0; node && k < node->op->inputs; k++) {
            for (j = 0; j < count; j++) {
                double from = x[j] + wide, middle, at = y[i] + high * (k + 1) / (node->op->inputs + 1);
                if (values[j].value != node->in[k]) continue;
                middle = (from + x[i]) / 2;
                mde_text_format(t, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.5\" d=\"M%g %gC%g %g",
                                PLOT_FAINT, from, y[j] + high / 2, middle, y[j] + high / 2);
                mde_text_format(t, " %g %g %g %g\"/>\n", middle, at, x[i] - 7, at);
                mde_text_format(t, "<path fill=\"%s\" d=\"M%g %gl-9 -4v8z\"/>\n", PLOT_FAINT, x[i], at);
            }
        }
    }
    for (i = 0; i < count; i++) {
        const mde_node *node = values[i].value->node;
        char text[64];
        plot_rect(t, x[i], y[i], wide, high, node ? "#eff8fe" : "#fff6e5", " rx=\"8\" stroke=\"" PLOT_FAINT "\"");
        plot_text(t, x[i] + wide / 2, y[i] + 20, "middle", 14, " font-weight=\"bold\"", values[i].name);
        plot_text(t, x[i] + wide / 2, y[i] + 36, "middle", 11, " fill=\"" PLOT_FAINT "\"",
                  node ? node->op->name : "leaf");
        snprintf(text, sizeof text, "%.4f", mde_item(values[i].value));
        plot_text(t, x[i] + wide / 2, y[i] + 56, "middle", 13, "", text);
        if (!values[i].adjoint) continue;
        snprintf(text, sizeof text, "adjoint %.4f", mde_item(values[i].adjoint));
        plot_text(t, x[i] + wide / 2, y[i] + 74, "middle", 12, " fill=\"#b34700\"", text);
    }
    plot_close(t);
}

#ifdef __GNUC__
#pragma GCC diagnostic pop
#endif
#endif
