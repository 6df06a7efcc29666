/* plot.h - pictures as SVG text for pages and files: curves and points, bars, tables of colour, a function over three
   weights. A program includes it after mdemix.h, of which it uses only the public functions; nothing else is needed:

       plot_series series = { .name = "loss", .count = 100, .x = steps, .y = losses };
       plot_desc plot = { .title = "Training loss", .x_label = "step", .count = 1, .series = &series };
       mde_text *svg = mde_text_create(c);
       plot_xy(svg, &plot);
       mde_text_write(svg, "loss.svg");

   A picture is laid out first, from estimated widths of its labels, so that margins fit what they hold and nothing
   covers the data, and then written front to back. No ids, no styles, no scripts: any number of pictures can stand
   inside one HTML page. Coordinates have at most two decimals, so the same data give the same bytes. Values that are
   not finite are left out; a picture without data says so. */
#ifndef MDEMIX_PLOT_H
#define MDEMIX_PLOT_H

#include <math.h>
#include <stdio.h>
#include <string.h>

/* As in mdemix.h: no fused multiply-adds, so that coordinates do not depend on the machine; and what a program does not
   call is no mistake. */
#if defined(__clang__)
#pragma float_control(push)
#pragma clang fp contract(off)
#elif defined(__GNUC__)
#pragma GCC push_options
#pragma GCC optimize("fp-contract=off")
#endif
#ifdef __GNUC__
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wunused-function"
#endif

/* ---- What programs call: a picture is described, then written into a text ---- */

typedef struct plot_series {
    const char *name;               /* for the legend; NULL: none */
    int count;
    const double *x, *y;
    const double *low, *high;       /* ends of the error bars, on the y axis; NULL: none */
    int points;                     /* 1: marks only; 0: a line */
    int color;                      /* 0: next of the palette; otherwise which of it, from 1 */
    int band;                       /* 1: shaded from low to high, behind all series, in place of error bars */
} plot_series;
/* A function over the plane: colours below the series, over the range of their axes. */
typedef double plot_field_fn(double x, double y, void *user);
typedef struct plot_desc {
    const char *title, *x_label, *y_label;
    int width, height;              /* pixels; 0: 640 x 400 */
    int log_x, log_y;
    int diagonal;                   /* 1: draw y = x (predicted against true) and the same range on both axes */
    int count;
    const plot_series *series;
    plot_field_fn *field;           /* NULL: none; on linear axes */
    void *user;
    int levels;                     /* lines along which the field has these values */
    const double *level;
} plot_desc;
static void plot_xy(mde_text *t, const plot_desc *plot);
/* Groups of bars: values [groups, bars]. */
static void plot_bars(mde_text *t, const char *title, const char *y_label, int groups, const char *const *group_names,
                      int bars, const char *const *bar_names, const double *values);
/* A table of coloured cells with their numbers: values [rows, columns]. lowest = 1 marks the minimum of each column. */
static void plot_heat(mde_text *t, const char *title, int rows, const char *const *row_names, int columns,
                      const char *const *column_names, const double *values, int lowest);
/* A function over the simplex of three weights, with level lines; marks [count, 3] with names. */
typedef double plot_ternary_fn(const double *weights, void *user);
static void plot_ternary(mde_text *t, const char *title, const char *const *corner_names, plot_ternary_fn *f,
                         void *user, int count, const double *marks, const char *const *mark_names);

/* ---- Colours ---- */

#define PLOT_FONT "Helvetica, Arial, 'Liberation Sans', sans-serif"
#define PLOT_INK "#222222"
#define PLOT_FAINT "#666666"
#define PLOT_GRID "#e4e4e4"

/* Okabe & Ito 2008, told apart with any kind of colour vision; grey stands in for their yellow, too pale on white. */
static const char *const plot_palette[8] = { "#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9",
                                             "#000000", "#8c8c8c" };

/* One hue, lightness falling in equal steps (OKLCH, from L = 0.975 to 0.335). */
static const int plot_ramp_stops[9][3] = { { 239, 248, 254 }, { 196, 225, 244 }, { 156, 201, 234 }, { 118, 176, 222 },
                                           { 83, 151, 208 }, { 53, 125, 190 }, { 27, 100, 168 }, { 6, 75, 143 },
                                           { 0, 51, 115 } };

#define PLOT_RAMP_DARK 0.644        /* here black and white text have the same contrast, 4.6 to 1 */

/* Colour at share 0 .. 1 of the ramp; returns 1 when it is so dark that text on it must be white. */
static int plot_ramp_color(double share, char color[8])
{
    double at = share < 0 ? 0 : share > 1 ? 8 : share * 8;
    int stop = at >= 8 ? 7 : (int)at, i, rgb[3];
    for (i = 0; i < 3; i++) {
        double from = plot_ramp_stops[stop][i], to = plot_ramp_stops[stop + 1][i];
        rgb[i] = (int)floor(from + (to - from) * (at - stop) + 0.5);
    }
    snprintf(color, 8, "#%02x%02x%02x", (unsigned)rgb[0] & 255u, (unsigned)rgb[1] & 255u, (unsigned)rgb[2] & 255u);
    return share > PLOT_RAMP_DARK;
}

static const char *plot_palette_color(int index)
{
    return plot_palette[index < 0 ? 0 : index % 8];
}

/* Beyond this a value has no position that does not overflow, and is treated as not finite. */
static int plot_drawable(double value, int log)
{
    return value - value == 0 && value <= 1e300 && value >= (log ? 1e-300 : -1e300);
}

/* ---- Numbers on pictures ---- */

#define PLOT_NUMBER 400             /* bytes that hold any number */

/* A number as a text has it, free of locale: written at its end and taken off again. Style 'g' has significant digits,
   'f' decimals. */
static void plot_print_number(mde_text *t, char *buffer, double value, char style, int digits)
{
    size_t start = t->length;
    buffer[0] = 0;
    if (style == 'g') mde_text_add_number(t, value, digits);
    else mde_text_add_fixed(t, value, digits);
    if (mde_context_status(t->context)) return;
    memcpy(buffer, t->bytes + start, t->length - start + 1);
    t->length = start;
    t->bytes[start] = 0;
}

/* 1e-05 becomes 1e-5. */
static void plot_shorten_exponent(char *text)
{
    char *e = strchr(text, 'e'), *digits;
    if (!e) return;
    e++;
    if (*e == '+') memmove(e, e + 1, strlen(e));
    digits = *e == '-' ? e + 1 : e;
    while (digits[0] == '0' && digits[1]) memmove(digits, digits + 1, strlen(digits));
}

/* Decimals that show steps of this size. */
static int plot_decimals_of_step(double step)
{
    int decimals = 0;
    while (decimals < 9 && step < 0.999) {
        step *= 10;
        decimals++;
    }
    return decimals;
}

/* A value among others between low and high: with the decimals that tell about `parts` of them apart. */
static void plot_print_between(mde_text *t, char *buffer, double value, double low, double high, double parts)
{
    double largest = fabs(low) > fabs(high) ? fabs(low) : fabs(high), step = (high - low) / parts;
    if (largest >= 1e6 || (largest > 0 && largest < 1e-3)) plot_print_number(t, buffer, value, 'g', 4);
    else if (step > 0) plot_print_number(t, buffer, value, 'f', plot_decimals_of_step(step));
    else plot_print_number(t, buffer, value, 'g', 4);
    plot_shorten_exponent(buffer);
}

/* ---- Text in pictures ---- */

#define PLOT_NAME_LENGTH 28         /* characters of a name that are shown */

/* Bytes of the UTF-8 character at text, of length bytes, and its number; 0 when there is none. */
static size_t plot_character(const char *text, size_t length, unsigned *code)
{
    unsigned first = (unsigned char)text[0];
    size_t size = first < 0x80 ? 1 : first < 0xC2 ? 0 : first < 0xE0 ? 2 : first < 0xF0 ? 3 : first < 0xF5 ? 4 : 0, i;
    if (size > length) return 0;
    *code = size > 1 ? first & (0xFFu >> (size + 1)) : first;
    for (i = 1; i < size; i++) {
        if (((unsigned char)text[i] & 0xC0) != 0x80) return 0;
        *code = *code << 6 | ((unsigned char)text[i] & 0x3Fu);
    }
    return size;
}

/* A pixel coordinate, rounded to two decimals. */
static double plot_px(double value)
{
    return floor(value * 100 + 0.5) / 100;
}

/* Estimated width in pixels; a little more than common sans-serif fonts need. */
static double plot_text_width(const char *text, double size)
{
    size_t length = text ? strlen(text) : 0, i = 0, step;
    double width = 0;
    for (; i < length; i += step) {
        unsigned code = 0;
        step = plot_character(text + i, length - i, &code);
        if (step == 0) {
            step = 1;
            width += 0.9;
        } else if (code >= 0x1100) {
            width += 1;
        } else if (strchr("iIjl.,:;|!'()[]ft/ ", (int)(code & 127u)) && code < 128) {
            width += 0.36;
        } else if ((code >= 'A' && code <= 'Z') || code == 'm' || code == 'w' || code == '%') {
            width += 0.76;
        } else {
            width += 0.59;
        }
    }
    return width * size;
}

/* Cuts a name after so many characters and lets it end in an ellipsis then. */
static const char *plot_name(char out[160], const char *text)
{
    size_t length = text ? strlen(text) : 0, i = 0, step, cut = 0;
    int characters = 0;
    for (; i < length && i < 140; i += step) {
        unsigned code = 0;
        step = plot_character(text + i, length - i, &code);
        if (step == 0) step = 1;
        if (++characters == PLOT_NAME_LENGTH) cut = i;
    }
    if (i < length || characters > PLOT_NAME_LENGTH) {
        i = cut ? cut : i;
        memcpy(out, text, i);
        memcpy(out + i, "\xE2\x80\xA6", 4);
    } else {
        if (length) memcpy(out, text, length);
        out[length] = 0;
    }
    return out;
}

static double plot_name_width(const char *text, double size)
{
    char name[160];
    return plot_text_width(plot_name(name, text), size);
}

static double plot_names_width(int count, const char *const *names, double size)
{
    double widest = 0;
    int i;
    for (i = 0; i < count && names; i++) {
        double width = plot_name_width(names[i], size);
        if (width > widest) widest = width;
    }
    return widest;
}

/* anchor: start, middle or end; more: further attributes, with a blank in front. */
static void plot_text(mde_text *t, double x, double y, const char *anchor, double size, const char *more,
                      const char *string)
{
    mde_text_format(t, "<text x=\"%.6g\" y=\"%.6g\" text-anchor=\"%s\" font-size=\"%.3g\"%s>", plot_px(x), plot_px(y),
                    anchor, size, more);
    mde_text_add_html(t, string);
    mde_text_add(t, "</text>\n");
}

/* A name, cut when it is long. */
static void plot_label(mde_text *t, double x, double y, const char *anchor, double size, const char *more,
                       const char *string)
{
    char name[160];
    plot_text(t, x, y, anchor, size, more, plot_name(name, string));
}

static void plot_rotated(mde_text *t, double x, double y, const char *anchor, double size, int degrees,
                         const char *string)
{
    char more[96], name[160], px[PLOT_NUMBER], py[PLOT_NUMBER];
    plot_print_number(t, px, plot_px(x), 'g', 6);
    plot_print_number(t, py, plot_px(y), 'g', 6);
    snprintf(more, sizeof more, " transform=\"rotate(%d %.30s %.30s)\"", degrees, px, py);
    plot_text(t, x, y, anchor, size, more, degrees == -90 ? string : plot_name(name, string));
}

static void plot_line(mde_text *t, double x1, double y1, double x2, double y2, const char *stroke, double width,
                      const char *more)
{
    mde_text_format(t, "<line x1=\"%.6g\" y1=\"%.6g\" x2=\"%.6g\" y2=\"%.6g\"", plot_px(x1), plot_px(y1), plot_px(x2),
                    plot_px(y2));
    mde_text_format(t, " stroke=\"%s\" stroke-width=\"%.3g\"%s/>\n", stroke, width, more);
}

static void plot_rect(mde_text *t, double x, double y, double width, double height, const char *fill,
                      const char *more)
{
    mde_text_format(t, "<rect x=\"%.6g\" y=\"%.6g\" width=\"%.6g\" height=\"%.6g\" fill=\"%s\"%s/>\n", plot_px(x),
                    plot_px(y), plot_px(width), plot_px(height), fill, more);
}

/* In one line, or in two that break at the blank nearest to the middle; smaller when that is not enough. */
static void plot_title(mde_text *t, double width, const char *title)
{
    char line[2][256];
    size_t length = strlen(title), i, cut = 0;
    double size = 12;
    int k;
    for (i = 1; i + 1 < length; i++) {
        size_t off = i > length / 2 ? i - length / 2 : length / 2 - i;
        if (title[i] == ' ' && (!cut || off < (cut > length / 2 ? cut - length / 2 : length / 2 - cut))) cut = i;
    }
    if (1.1 * plot_text_width(title, 14) <= width - 20 || !cut || length > 400) {
        double wide = 1.1 * plot_text_width(title, 14);
        size = wide > width - 20 ? 14 * (width - 20) / wide : 14;
        plot_text(t, width / 2, 23, "middle", size, " font-weight=\"bold\"", title);
        return;
    }
    for (k = 0; k < 2; k++) {
        double wide;
        snprintf(line[k], sizeof line[k], "%.*s", k ? 255 : (int)cut, k ? title + cut + 1 : title);
        wide = 1.1 * plot_text_width(line[k], 12);
        if (wide > width - 20 && 12 * (width - 20) / wide < size) size = 12 * (width - 20) / wide;
    }
    plot_text(t, width / 2, 16, "middle", size, " font-weight=\"bold\"", line[0]);
    plot_text(t, width / 2, 30, "middle", size, " font-weight=\"bold\"", line[1]);
}

static void plot_open(mde_text *t, double width, double height, const char *title)
{
    mde_text_format(t, "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.6g %.6g\" width=\"%.6g\"",
                    plot_px(width), plot_px(height), plot_px(width));
    mde_text_format(t, " height=\"%.6g\" role=\"img\" font-family=\"%s\" fill=\"%s\">\n<title>", plot_px(height),
                    PLOT_FONT, PLOT_INK);
    mde_text_add_html(t, title && *title ? title : "picture");
    mde_text_add(t, "</title>\n");
    plot_rect(t, 0, 0, width, height, "#ffffff", "");
    if (title && *title) plot_title(t, width, title);
}

static void plot_close(mde_text *t)
{
    mde_text_add(t, "</svg>\n");
}

static void plot_no_data(mde_text *t, double x, double y, double width, double height)
{
    plot_rect(t, x, y, width, height, "none", " stroke=\"" PLOT_FAINT "\"");
    plot_text(t, x + width / 2, y + height / 2 + 4, "middle", 12, "", "no data");
}

/* ---- Axes ---- */

#define PLOT_TICKS 40
#define PLOT_LN10 2.30258509299404568402

typedef struct plot_axis {
    int log;
    double low, high;               /* of the data with some room; natural logarithms when log */
    double from, to;                /* pixels */
    int count;
    double ticks[PLOT_TICKS];
    double unit;                    /* of the labels of a linear axis: 1, 1e3 (k), 1e6 (M), ... */
    int decimals;                   /* -1: exponents */
} plot_axis;

/* 1, 2 or 5 times a power of ten: the minimum that gives no more than about `target` steps. */
static double plot_nice_step(double span, double target)
{
    double raw = span / target, power = 1;
    while (power * 10 <= raw) power *= 10;
    while (power > raw && power > 1e-305) power /= 10;
    if (raw <= power * 1.0001) return power;
    if (raw <= power * 2.0001) return power * 2;
    if (raw <= power * 5.0001) return power * 5;
    return power * 10;
}

static void plot_axis_range(plot_axis *a, double low, double high, double room)
{
    double largest;
    if (a->log) {
        low = log(low);
        high = log(high);
    }
    largest = fabs(low) > fabs(high) ? fabs(low) : fabs(high);
    if (high - low <= 1e-9 * largest || high <= low) {
        double half = a->log ? 0.7 : largest > 0 ? 0.1 * largest : 1;
        low -= half;
        high += half;
    }
    a->low = low - room * (high - low);
    a->high = high + room * (high - low);
}

static double plot_axis_position(const plot_axis *a, double value)
{
    double at = ((a->log ? log(value) : value) - a->low) / (a->high - a->low);
    return a->from + at * (a->to - a->from);
}

static void plot_axis_linear_ticks(plot_axis *a, double low, double high, double target)
{
    double step, first, largest = 0;
    int i;
    do {                                                /* one tick alone says little */
        step = plot_nice_step(high - low, target);
        first = ceil(low / step - 1e-9);
        a->count = 0;
        for (i = 0; i < PLOT_TICKS; i++) {
            double value = (first + i) * step;
            if (value > high + 1e-9 * step) break;
            if (fabs(value) < 1e-9 * step) value = 0;
            a->ticks[a->count++] = value;
            if (fabs(value) > largest) largest = fabs(value);
        }
        target *= 2;
    } while (a->count < 2 && target < 10);
    a->unit = 1;
    while (largest >= 1e4 && a->unit < 1e12 && largest >= a->unit * 1e3) a->unit *= 1e3;
    a->decimals = plot_decimals_of_step(step / a->unit);
    if (a->decimals > 2 && largest < 1e7) {             /* 123456.1 rather than 123.4561k */
        a->unit = 1;
        a->decimals = plot_decimals_of_step(step);
    }
    if (largest >= 1e15 || a->decimals > 6) a->decimals = -1;
}

static void plot_axis_ticks(plot_axis *a, double target)
{
    double decades = (a->high - a->low) / PLOT_LN10, power, low, high;
    if (!a->log) {
        plot_axis_linear_ticks(a, a->low, a->high, target);
        return;
    }
    low = exp(a->low);
    high = exp(a->high);
    a->unit = 0;
    if (decades < 1) {
        plot_axis_linear_ticks(a, low, high, target);
        return;
    }
    {
        double from = ceil(a->low / PLOT_LN10 - 1e-9), stride = ceil(decades / target);
        a->count = 0;
        for (power = 1; from > 0 && power < 1e300; from--) power *= 10;
        for (; from < 0 && power > 1e-300; from++) power /= 10;
        if (stride <= 1 && decades <= 0.5 * target) power /= 10;
        while (power <= high * 1.0001 && a->count < PLOT_TICKS - 3) {
            double times[3] = { 1, 2, 5 };
            int i, n = stride <= 1 && decades <= 0.5 * target ? 3 : 1;
            for (i = 0; i < n; i++) {
                double value = power * times[i];
                if (value >= low * 0.9999 && value <= high * 1.0001) a->ticks[a->count++] = value;
            }
            for (i = 0; i < (int)stride || i == 0; i++) power *= 10;
        }
        a->unit = 0;
    }
}

static void plot_axis_label(mde_text *t, const plot_axis *a, double value, char *buffer)
{
    static const char suffixes[5][2] = { "", "k", "M", "B", "T" };
    double unit = a->unit, size = fabs(value);
    int suffix = 0, own = unit == 0;                    /* a logarithmic axis: each tick has its own unit */
    if (value == 0) {
        memcpy(buffer, "0", 2);
        return;
    }
    if (own) {
        unit = 1;
        while (size >= 1e4 && unit < 1e12 && size >= unit * 1e3 * 0.9999) unit *= 1e3;
    }
    if ((own && (size < 0.9e-3 || size >= 1e15)) || (!own && a->decimals < 0)) {
        plot_print_number(t, buffer, value, 'g', own ? 3 : 4);
        plot_shorten_exponent(buffer);
        return;
    }
    plot_print_number(t, buffer, value / unit, own ? 'g' : 'f', own ? 4 : a->decimals);
    for (; unit > 1; unit /= 1e3) suffix++;
    memcpy(buffer + strlen(buffer), suffixes[suffix < 5 ? suffix : 4], 2);
}

static double plot_axis_label_width(mde_text *t, const plot_axis *a, double size)
{
    char buffer[PLOT_NUMBER];
    double widest = 0;
    int i;
    for (i = 0; i < a->count; i++) {
        double width;
        plot_axis_label(t, a, a->ticks[i], buffer);
        width = plot_text_width(buffer, size);
        if (width > widest) widest = width;
    }
    return widest;
}

/* As many ticks as have room for their labels side by side. */
static void plot_axis_ticks_across(mde_text *t, plot_axis *a)
{
    double length = fabs(a->to - a->from), target = floor(length / 50), closest;
    int i;
    for (; target >= 3; target -= 1) {
        plot_axis_ticks(a, target);
        closest = length;
        for (i = 1; i < a->count; i++) {
            double gap = fabs(plot_axis_position(a, a->ticks[i]) - plot_axis_position(a, a->ticks[i - 1]));
            if (gap < closest) closest = gap;
        }
        if (closest >= plot_axis_label_width(t, a, 11) + 10) return;
    }
    plot_axis_ticks(a, 2);
}

/* Grid lines and labels at the ticks; the lines reach across to `end`. */
static void plot_grid(mde_text *t, const plot_axis *a, int vertical, double at, double end)
{
    char label[PLOT_NUMBER];
    int i;
    for (i = 0; i < a->count; i++) {
        double p = plot_axis_position(a, a->ticks[i]);
        plot_axis_label(t, a, a->ticks[i], label);
        if (vertical) {
            plot_line(t, at, p, end, p, PLOT_GRID, 1, "");
            plot_text(t, at - 7, p + 4, "end", 11, "", label);
        } else {
            plot_line(t, p, at, p, end, PLOT_GRID, 1, "");
            plot_text(t, p, at + 16, "middle", 11, "", label);
        }
    }
}

/* ---- Plots ---- */

/* Shapes repeat with the colours, so that series differ for those who see no colours. */
static void plot_mark(mde_text *t, double x, double y, double r, int shape)
{
    switch (shape % 4) {
    case 0:
        mde_text_format(t, "<circle cx=\"%.6g\" cy=\"%.6g\" r=\"%.3g\"/>\n", plot_px(x), plot_px(y), r);
        break;
    case 1:
        mde_text_format(t, "<path d=\"M%.6g %.6gh%.3gv%.3gh%.3gz\"/>\n", plot_px(x - 0.9 * r), plot_px(y - 0.9 * r),
                        1.8 * r, 1.8 * r, -1.8 * r);
        break;
    case 2:
        mde_text_format(t, "<path d=\"M%.6g %.6gl%.3g %.3gh%.3gz\"/>\n", plot_px(x), plot_px(y - 1.2 * r), 1.1 * r,
                        2 * r, -2.2 * r);
        break;
    default:
        mde_text_format(t, "<path d=\"M%.6g %.6gl%.3g %.3gl%.3g %.3gl%.3g %.3gz\"/>\n", plot_px(x),
                        plot_px(y - 1.3 * r), 1.3 * r, 1.3 * r, -1.3 * r, 1.3 * r, -1.3 * r, -1.3 * r);
        break;
    }
}

static const char *plot_dash(int color)
{
    return color < 8 ? "" : color < 16 ? " stroke-dasharray=\"6 3\"" : " stroke-dasharray=\"2 3\"";
}

static int plot_series_color(const plot_desc *plot, int index)
{
    int color = plot->series[index].color;
    return color > 0 ? color - 1 : index;
}

static int plot_series_point(const plot_desc *plot, const plot_series *s, int i)
{
    return s->x && s->y && plot_drawable(s->x[i], plot->log_x) && plot_drawable(s->y[i], plot->log_y);
}

static void plot_line_series(mde_text *t, const plot_desc *plot, const plot_series *s, int color, const plot_axis *x,
                             const plot_axis *y)
{
    int i = 0;
    while (i < s->count) {
        int start, drawn = 0;
        double last_x = 0, last_y = 0;
        for (; i < s->count && !plot_series_point(plot, s, i); i++) {}
        for (start = i; i < s->count && plot_series_point(plot, s, i); i++) {
            double px = plot_px(plot_axis_position(x, s->x[i])), py = plot_px(plot_axis_position(y, s->y[i]));
            int last = i + 1 == s->count || !plot_series_point(plot, s, i + 1);
            if (i == start) {
                mde_text_format(t, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.8\" stroke-linejoin=\"round\" "
                                "stroke-linecap=\"round\"%s d=\"M%.6g %.6g", plot_palette_color(color),
                                plot_dash(color), px, py);
                if (last) mde_text_add(t, "h0");        /* a point alone shows as a dot */
            } else if (last || drawn == 0 || fabs(px - last_x) + fabs(py - last_y) >= 0.5) {
                mde_text_format(t, "L%.6g %.6g", px, py);
            } else {
                continue;
            }
            drawn++;
            last_x = px;
            last_y = py;
        }
        if (i > start) mde_text_add(t, "\"/>\n");
    }
}

static int plot_series_interval(const plot_desc *plot, const plot_series *s, int i)
{
    return s->low && s->high && plot_series_point(plot, s, i) && plot_drawable(s->low[i], plot->log_y) &&
           plot_drawable(s->high[i], plot->log_y);
}

/* Along the lower ends and back along the upper ones. */
static void plot_band(mde_text *t, const plot_desc *plot, const plot_series *s, int color, const plot_axis *x,
                      const plot_axis *y)
{
    int i = 0, k, start;
    while (i < s->count) {
        for (; i < s->count && !plot_series_interval(plot, s, i); i++) {}
        for (start = i; i < s->count && plot_series_interval(plot, s, i); i++) {}
        if (i == start) break;
        mde_text_format(t, "<path fill=\"%s\" fill-opacity=\"0.2\" d=\"", plot_palette_color(color));
        for (k = 0; k < 2 * (i - start); k++) {
            int at = k < i - start ? start + k : 2 * i - start - 1 - k;
            mde_text_format(t, "%c%.6g %.6g", k ? 'L' : 'M', plot_px(plot_axis_position(x, s->x[at])),
                            plot_px(plot_axis_position(y, k < i - start ? s->low[at] : s->high[at])));
        }
        mde_text_add(t, "Z\"/>\n");
    }
}

static void plot_error_bars(mde_text *t, const plot_desc *plot, const plot_series *s, int color, const plot_axis *x,
                            const plot_axis *y)
{
    int i;
    for (i = 0; i < s->count; i++) {
        double px, low, high;
        if (!plot_series_interval(plot, s, i)) continue;
        px = plot_px(plot_axis_position(x, s->x[i]));
        low = plot_px(plot_axis_position(y, s->low[i]));
        high = plot_px(plot_axis_position(y, s->high[i]));
        mde_text_format(t, "<path fill=\"none\" stroke=\"%s\" stroke-width=\"1.2\" d=\"", plot_palette_color(color));
        mde_text_format(t, "M%.6g %.6gV%.6gM%.6g %.6gh6M%.6g %.6gh6\"/>\n", px, low, high, plot_px(px - 3), low,
                        plot_px(px - 3), high);
    }
}

static void plot_points_series(mde_text *t, const plot_desc *plot, const plot_series *s, int color,
                               const plot_axis *x, const plot_axis *y)
{
    int i, many = s->count > 150;
    mde_text_format(t, "<g fill=\"%s\" stroke=\"#ffffff\" stroke-width=\"%.3g\"%s>\n", plot_palette_color(color),
                    many ? 0.3 : 0.7, many ? " fill-opacity=\"0.7\"" : "");
    for (i = 0; i < s->count; i++) {
        if (!plot_series_point(plot, s, i)) continue;
        plot_mark(t, plot_axis_position(x, s->x[i]), plot_axis_position(y, s->y[i]), many ? 2.5 : 3.6, color);
    }
    mde_text_add(t, "</g>\n");
}

/* Minimum and maximum of what is drawn: [0], [1] of x, [2], [3] of y. 0 when there is nothing. */
static int plot_ranges(const plot_desc *plot, double range[4])
{
    int i, k, found = 0;
    for (k = 0; k < plot->count; k++) {
        const plot_series *s = &plot->series[k];
        for (i = 0; i < s->count; i++) {
            double low, high;
            if (!plot_series_point(plot, s, i)) continue;
            low = high = s->y[i];
            if (s->low && plot_drawable(s->low[i], plot->log_y) && s->low[i] < low) low = s->low[i];
            if (s->high && plot_drawable(s->high[i], plot->log_y) && s->high[i] > high) high = s->high[i];
            if (!found || s->x[i] < range[0]) range[0] = s->x[i];
            if (!found || s->x[i] > range[1]) range[1] = s->x[i];
            if (!found || low < range[2]) range[2] = low;
            if (!found || high > range[3]) range[3] = high;
            found = 1;
        }
    }
    if (found && plot->diagonal) {
        range[0] = range[2] = range[0] < range[2] ? range[0] : range[2];
        range[1] = range[3] = range[1] > range[3] ? range[1] : range[3];
    }
    return found;
}

static void plot_legend(mde_text *t, const plot_desc *plot, double x, double y)
{
    char stroke[160];
    int i;
    for (i = 0; i < plot->count; i++) {
        const plot_series *s = &plot->series[i];
        int color = plot_series_color(plot, i);
        if (!s->name) continue;
        if (s->band) {
            mde_text_format(t, "<path fill=\"%s\" fill-opacity=\"0.2\" d=\"M%.6g %.6gh18v12h-18Z\"/>\n",
                            plot_palette_color(color), plot_px(x), plot_px(y - 6));
        }
        snprintf(stroke, sizeof stroke, " stroke-linecap=\"round\"%s", plot_dash(color));
        if (s->points) {
            mde_text_format(t, "<g fill=\"%s\">\n", plot_palette_color(color));
            plot_mark(t, x + 9, y, 4, color);
            mde_text_add(t, "</g>\n");
        } else {
            plot_line(t, x, y, x + 18, y, plot_palette_color(color), 2.2, stroke);
        }
        plot_label(t, x + 24, y + 4, "start", 11, "", s->name);
        y += 18;
    }
}

/* ---- A function over the plane ---- */

#define PLOT_FIELD_STEPS 64
#define PLOT_FIELD_COLORS 24
#define PLOT_FIELD_DARKEST 0.62     /* share of the ramp: marks of any colour are seen on it */

/* Values at the corners of the cells of a square grid over the axes. */
typedef struct plot_grid_values {
    const plot_axis *x, *y;
    double low, high;
    double at[(PLOT_FIELD_STEPS + 1) * (PLOT_FIELD_STEPS + 1)];     /* row by row, from the low end of y */
} plot_grid_values;

static double plot_field_value(const plot_grid_values *g, int row, int column)
{
    return g->at[row * (PLOT_FIELD_STEPS + 1) + column];
}

/* Pixels of a corner, to a tenth. */
static void plot_field_position(const plot_grid_values *g, double row, double column, double at[2])
{
    at[0] = floor(10 * (g->x->from + column / PLOT_FIELD_STEPS * (g->x->to - g->x->from)) + 0.5) / 10;
    at[1] = floor(10 * (g->y->from + row / PLOT_FIELD_STEPS * (g->y->to - g->y->from)) + 0.5) / 10;
}

static void plot_field_color(int color, char hex[8])
{
    plot_ramp_color(PLOT_FIELD_DARKEST * (color + 0.5) / PLOT_FIELD_COLORS, hex);
}

/* Colour of a cell by the mean of its corners; -1 where one has no value. */
static int plot_field_cell(const plot_grid_values *g, int row, int column)
{
    double mean = 0;
    int i;
    for (i = 0; i < 4; i++) {
        double value = plot_field_value(g, row + i / 2, column + i % 2);
        if (!plot_drawable(value, 0)) return -1;
        mean += value / 4;
    }
    i = g->high > g->low ? (int)((mean - g->low) / (g->high - g->low) * PLOT_FIELD_COLORS) : 0;
    return i < 0 ? 0 : i < PLOT_FIELD_COLORS ? i : PLOT_FIELD_COLORS - 1;
}

/* Neighbours of one colour in a row become one shape, all shapes of one colour one path. */
static void plot_field_fill(mde_text *t, const plot_grid_values *g)
{
    int color, row, column;
    for (color = 0; color < PLOT_FIELD_COLORS; color++) {
        char hex[8];
        int any = 0;
        plot_field_color(color, hex);
        for (row = 0; row < PLOT_FIELD_STEPS; row++) {
            for (column = 0; column < PLOT_FIELD_STEPS; column++) {
                double p[2], q[2];
                int start = column;
                if (plot_field_cell(g, row, column) != color) continue;
                while (column + 1 < PLOT_FIELD_STEPS && plot_field_cell(g, row, column + 1) == color) column++;
                plot_field_position(g, row, start, p);
                plot_field_position(g, row + 1, column + 1, q);
                if (!any) mde_text_format(t, "<path fill=\"%s\" stroke=\"%s\" stroke-width=\"0.6\" d=\"", hex, hex);
                any = 1;
                mde_text_format(t, "M%.6g %.6gH%.6gV%.6gH%.6gz", p[0], p[1], q[0], q[1], p[0]);
            }
        }
        if (any) mde_text_add(t, "\"/>\n");
    }
}

/* Marching triangles, two a cell. */
static void plot_field_level(mde_text *t, const plot_grid_values *g, double level)
{
    static const int corners[2][3][2] = { { { 0, 0 }, { 0, 1 }, { 1, 1 } }, { { 0, 0 }, { 1, 1 }, { 1, 0 } } };
    int row, column, half, i, any = 0;
    for (row = 0; row < PLOT_FIELD_STEPS; row++) {
        for (column = 0; column < PLOT_FIELD_STEPS; column++) {
            for (half = 0; half < 2; half++) {
                double at[2][2];
                int crossings = 0;
                for (i = 0; i < 3; i++) {
                    const int *a = corners[half][i], *b = corners[half][(i + 1) % 3];
                    double from = plot_field_value(g, row + a[0], column + a[1]) - level, share;
                    double to = plot_field_value(g, row + b[0], column + b[1]) - level;
                    if (!plot_drawable(from, 0) || !plot_drawable(to, 0)) break;
                    if ((from < 0) == (to < 0) || crossings == 2) continue;
                    share = from / (from - to);
                    plot_field_position(g, row + a[0] + share * (b[0] - a[0]), column + a[1] + share * (b[1] - a[1]),
                                        at[crossings++]);
                }
                if (crossings < 2) continue;
                if (!any) mde_text_add(t, "<path fill=\"none\" stroke=\"" PLOT_INK "\" stroke-width=\"1.5\" d=\"");
                any = 1;
                mde_text_format(t, "M%.6g %.6gL%.6g %.6g", at[0][0], at[0][1], at[1][0], at[1][1]);
            }
        }
    }
    if (any) mde_text_add(t, "\"/>\n");
}

static void plot_field_legend(mde_text *t, const plot_grid_values *g, double x, double y)
{
    char hex[8], label[PLOT_NUMBER];
    int i;
    for (i = 0; i < PLOT_FIELD_COLORS; i++) {
        plot_field_color(PLOT_FIELD_COLORS - 1 - i, hex);
        plot_rect(t, x, y + 5 * i, 14, i + 1 < PLOT_FIELD_COLORS ? 6 : 5, hex, "");
    }
    for (i = 0; i <= 4; i++) {
        plot_print_between(t, label, g->low + i / 4.0 * (g->high - g->low), g->low, g->high, 50);
        plot_text(t, x + 19, y + 5 * PLOT_FIELD_COLORS * (1 - i / 4.0) + 3.5, "start", 10, "", label);
    }
}

/* Below all else; the scale of its colours stands at the right, below `below`. */
static void plot_field(mde_text *t, const plot_desc *plot, const plot_axis *x, const plot_axis *y, double below)
{
    plot_grid_values *g = (plot_grid_values *)mde_alloc(t->context, 1, sizeof *g);
    int row, column, found = 0, i;
    if (!g) return;
    g->x = x;
    g->y = y;
    for (row = 0; row <= PLOT_FIELD_STEPS; row++) {
        for (column = 0; column <= PLOT_FIELD_STEPS; column++) {
            double value = plot->field(x->low + (x->high - x->low) * column / PLOT_FIELD_STEPS,
                                       y->low + (y->high - y->low) * row / PLOT_FIELD_STEPS, plot->user);
            g->at[row * (PLOT_FIELD_STEPS + 1) + column] = value;
            if (!plot_drawable(value, 0)) continue;
            if (!found || value < g->low) g->low = value;
            if (!found || value > g->high) g->high = value;
            found = 1;
        }
    }
    if (found) {
        plot_field_fill(t, g);
        for (i = 0; i < plot->levels; i++) plot_field_level(t, g, plot->level[i]);
        plot_field_legend(t, g, x->to + 16, below);
    }
    mde_release(t->context, g);
}

static void plot_xy(mde_text *t, const plot_desc *plot)
{
    plot_axis x, y;
    double width, height, left, right = 18, top, bottom, legend = 0, range[4] = { 0, 0, 0, 0 };
    int i, named = 0, found;
    if (!t || !plot || mde_context_status(t->context)) return;
    memset(&x, 0, sizeof x);
    memset(&y, 0, sizeof y);
    x.log = plot->log_x != 0;
    y.log = plot->log_y != 0;
    for (i = 0; i < plot->count; i++) {
        double wide = plot_name_width(plot->series[i].name, 11) + 42;
        if (!plot->series[i].name) continue;
        named++;
        if (wide > legend) legend = wide;
    }
    if (plot->field && legend < 70) legend = 70;
    found = plot_ranges(plot, range);
    top = plot->title && *plot->title ? 38 : 14;
    bottom = plot->x_label && *plot->x_label ? 50 : 30;
    height = plot->height > 0 ? plot->height : 400;
    if (height < top + bottom + 18 * named) height = top + bottom + 18 * named;
    if (height < top + bottom + 60) height = top + bottom + 60;
    if (plot->field && height < top + 18 * named + 160) height = top + 18 * named + 160;

    y.from = height - bottom;
    y.to = top;
    if (found) {
        plot_axis_range(&x, range[0], range[1], 0.04);
        plot_axis_range(&y, range[2], range[3], 0.04);
        plot_axis_ticks(&y, floor((y.from - y.to) / 34));
    }
    left = plot_axis_label_width(t, &y, 11) + 16 + (plot->y_label && *plot->y_label ? 20 : 4);
    right += legend;
    width = plot->width > 0 ? plot->width : plot->diagonal ? left + right + (y.from - y.to) : 640;
    if (width < left + right + 100) width = left + right + 100;
    x.from = left;
    x.to = width - right;
    if (found) plot_axis_ticks_across(t, &x);

    plot_open(t, width, height, plot->title);
    if (found) {
        plot_grid(t, &y, 1, x.from, x.to);
        plot_grid(t, &x, 0, y.from, y.to);
        if (plot->field && !x.log && !y.log) plot_field(t, plot, &x, &y, y.to + 18 * named + 12);
        mde_text_format(t, "<path fill=\"none\" stroke=\"%s\" d=\"M%.6g %.6gV%.6gH%.6g\"/>\n", PLOT_FAINT,
                        plot_px(x.from), plot_px(y.to), plot_px(y.from), plot_px(x.to));
        if (plot->diagonal && x.log == y.log) {
            plot_line(t, x.from, y.from, x.to, y.to, PLOT_FAINT, 1, " stroke-dasharray=\"5 4\"");
        }
        for (i = 0; i < plot->count; i++) {
            if (plot->series[i].band) plot_band(t, plot, &plot->series[i], plot_series_color(plot, i), &x, &y);
        }
        for (i = 0; i < plot->count; i++) {
            const plot_series *s = &plot->series[i];
            int color = plot_series_color(plot, i);
            if (!s->points) plot_line_series(t, plot, s, color, &x, &y);
            if (!s->band) plot_error_bars(t, plot, s, color, &x, &y);
            if (s->points) plot_points_series(t, plot, s, color, &x, &y);
        }
        plot_legend(t, plot, x.to + 16, y.to + 9);
    } else {
        plot_no_data(t, x.from, y.to, x.to - x.from, y.from - y.to);
    }
    if (plot->x_label) plot_text(t, (x.from + x.to) / 2, height - 12, "middle", 12, "", plot->x_label);
    if (plot->y_label) plot_rotated(t, 16, (y.from + y.to) / 2, "middle", 12, -90, plot->y_label);
    plot_close(t);
}

/* ---- Bars ---- */

/* What depends on the layout of a bar chart. */
typedef struct plot_bar_layout {
    double group, bar;              /* widths */
    int rotated;                    /* names of the groups do not fit level */
    int labels;                     /* values stand at the bars */
} plot_bar_layout;

static void plot_group_names(mde_text *t, const plot_bar_layout *l, double left, double y, int groups,
                             const char *const *names)
{
    int g;
    for (g = 0; g < groups && names; g++) {
        double x = left + l->group * (g + 0.5);
        if (!names[g]) continue;
        if (l->rotated) plot_rotated(t, x + 3, y + 12, "end", 11, -40, names[g]);
        else plot_label(t, x, y + 17, "middle", 11, "", names[g]);
    }
}

static void plot_bars(mde_text *t, const char *title, const char *y_label, int groups,
                      const char *const *group_names, int bars, const char *const *bar_names, const double *values)
{
    plot_axis y;
    plot_bar_layout l;
    double low = 0, high = 0, left, right = 18, top = title && *title ? 38 : 18, bottom = 30, width = 640, height = 400;
    double widest, label_width = 0;
    char label[PLOT_NUMBER];
    int g, b, found = 0, legend = bars > 1 && bar_names != NULL;
    if (!t || mde_context_status(t->context)) return;
    memset(&y, 0, sizeof y);
    memset(&l, 0, sizeof l);
    for (g = 0; g < groups && values; g++) {
        for (b = 0; b < bars; b++) {
            double v = values[(size_t)g * (size_t)bars + (size_t)b];
            if (!plot_drawable(v, 0)) continue;
            found = 1;
            if (v < low) low = v;
            if (v > high) high = v;
        }
    }
    plot_axis_range(&y, low, high, 0);
    if (low < 0) y.low -= 0.08 * (y.high - y.low);
    else y.low = 0;
    if (high > 0) y.high += 0.08 * (y.high - y.low);
    else y.high = low < 0 ? 0 : 1;
    for (g = 0; g < groups && values; g++) {
        for (b = 0; b < bars; b++) {
            double v = values[(size_t)g * (size_t)bars + (size_t)b];
            if (!plot_drawable(v, 0)) continue;
            plot_print_between(t, label, v, low, high, 100);
            if (plot_text_width(label, 10) > label_width) label_width = plot_text_width(label, 10);
        }
    }

    /* Widths first: they decide whether names must turn, which decides the height that is left. */
    widest = plot_names_width(groups, group_names, 11);
    if (legend) right += plot_names_width(bars, bar_names, 11) + 38;
    y.from = height - bottom;
    y.to = top;
    plot_axis_ticks(&y, 7);
    left = plot_axis_label_width(t, &y, 11) + 16 + (y_label && *y_label ? 20 : 4);
    if (found) {
        if (width < left + right + groups * (bars * 5.0 + 6)) width = left + right + groups * (bars * 5.0 + 6);
        l.group = (width - left - right) / groups;
        l.rotated = widest > l.group - 6;
        if (l.rotated) {
            double reach = 0.766 * widest - l.group / 2 + 8;    /* of the first name, to the left: cos 40 degrees */
            if (reach > left) {
                left = reach;
                l.group = (width - left - right) / groups;
            }
            bottom = 24 + 0.643 * widest;
        }
        l.bar = 0.8 * l.group / bars;
        if (l.bar > 60) l.bar = 60;
        l.labels = label_width <= l.bar * 1.1 && groups * bars <= 40;
    }
    height += bottom - 30;
    if (legend && height < top + bottom + 18 * bars) height = top + bottom + 18 * bars;
    y.from = height - bottom;

    plot_open(t, width, height, title);
    if (found) {
        plot_grid(t, &y, 1, left, width - right);
        for (g = 0; g < groups; g++) {
            double x = left + l.group * (g + 0.5) - l.bar * bars / 2, zero = plot_axis_position(&y, 0);
            for (b = 0; b < bars; b++, x += l.bar) {
                double v = values[(size_t)g * (size_t)bars + (size_t)b], end;
                double gap = l.bar > 8 ? 1 : 0.25;
                if (!plot_drawable(v, 0)) continue;
                end = plot_axis_position(&y, v);
                plot_rect(t, x + gap, v < 0 ? zero : end, l.bar - 2 * gap, fabs(end - zero), plot_palette_color(b),
                          "");
                if (!l.labels) continue;
                plot_print_between(t, label, v, low, high, 100);
                plot_text(t, x + l.bar / 2, v < 0 ? end + 12 : end - 4, "middle", 10, "", label);
            }
        }
        plot_line(t, left, plot_axis_position(&y, 0), width - right, plot_axis_position(&y, 0), PLOT_FAINT, 1, "");
        plot_group_names(t, &l, left, y.from, groups, group_names);
        for (b = 0; b < bars && legend; b++) {
            double at = top + 9 + 18 * b;
            plot_rect(t, width - right + 14, at - 5, 11, 11, plot_palette_color(b), "");
            plot_label(t, width - right + 31, at + 4, "start", 11, "", bar_names[b]);
        }
    } else {
        plot_no_data(t, left, top, width - left - right, y.from - top);
    }
    if (y_label) plot_rotated(t, 16, (y.from + y.to) / 2, "middle", 12, -90, y_label);
    plot_close(t);
}

/* ---- Heat maps ---- */

/* Range of a column (column >= 0) or of the whole table; 0 when nothing can be drawn. */
static int plot_heat_range(int rows, int columns, int column, const double *values, double *low, double *high)
{
    int r, k, found = 0;
    for (r = 0; r < rows; r++) {
        for (k = column < 0 ? 0 : column; k < (column < 0 ? columns : column + 1); k++) {
            double v = values[(size_t)r * (size_t)columns + (size_t)k];
            if (!plot_drawable(v, 0)) continue;
            if (!found || v < *low) *low = v;
            if (!found || v > *high) *high = v;
            found = 1;
        }
    }
    return found;
}

static void plot_heat_cell(mde_text *t, double x, double y, double width, double height, double value, double low,
                           double high, int outlined)
{
    char color[8], label[PLOT_NUMBER];
    int dark;
    if (!plot_drawable(value, 0)) {
        plot_rect(t, x + 0.5, y + 0.5, width - 1, height - 1, "#f3f3f3", "");
        plot_text(t, x + width / 2, y + height / 2 + 4, "middle", 11, " fill=\"" PLOT_FAINT "\"", "\xE2\x80\x93");
        return;
    }
    dark = plot_ramp_color(high > low ? (value - low) / (high - low) : 0.3, color);
    plot_rect(t, x + 0.5, y + 0.5, width - 1, height - 1, color, "");
    if (outlined) {
        plot_rect(t, x + 2, y + 2, width - 4, height - 4, "none", " stroke=\"#d55e00\" stroke-width=\"2\"");
    }
    plot_print_between(t, label, value, low, high, 100);
    plot_text(t, x + width / 2, y + height / 2 + 4, "middle", 11, dark ? " fill=\"#ffffff\""
              : outlined ? " fill=\"#000000\" font-weight=\"bold\"" : " fill=\"#000000\"", label);
}

static void plot_heat_legend(mde_text *t, double x, double y, int lowest, double low, double high)
{
    char color[8], label[PLOT_NUMBER];
    double at;
    int i;
    if (lowest) memcpy(label, "lowest of the column", 21);
    else plot_print_between(t, label, low, low, high, 100);
    plot_text(t, x, y + 9, "start", 10, "", label);
    at = x + plot_text_width(label, 10) + 4;
    for (i = 0; i < 32; i++) {
        plot_ramp_color(i / 31.0, color);
        plot_rect(t, at + 3 * i, y, i < 31 ? 4 : 3, 11, color, "");
    }
    if (lowest) memcpy(label, "greatest", 9);
    else plot_print_between(t, label, high, low, high, 100);
    plot_text(t, at + 32 * 3 + 6, y + 9, "start", 10, "", label);
}

/* With lowest, columns are compared within themselves and so each has its own scale; otherwise one scale serves all. */
static void plot_heat(mde_text *t, const char *title, int rows, const char *const *row_names, int columns,
                      const char *const *column_names, const double *values, int lowest)
{
    double low = 0, high = 0, number = 0, name, cell, line = 26, left, right = 18, top, header, width, height;
    char label[PLOT_NUMBER];
    int r, k, found, rotated;
    if (!t || mde_context_status(t->context)) return;
    found = values && rows > 0 && columns > 0 && plot_heat_range(rows, columns, -1, values, &low, &high);
    if (!found) {
        plot_open(t, 400, 160, title);
        plot_no_data(t, 18, 38, 364, 104);
        plot_close(t);
        return;
    }
    for (k = 0; k < columns; k++) {
        double from = low, to = high;
        if (lowest && !plot_heat_range(rows, columns, k, values, &from, &to)) continue;
        for (r = 0; r < rows; r++) {
            double v = values[(size_t)r * (size_t)columns + (size_t)k];
            if (!plot_drawable(v, 0)) continue;
            plot_print_between(t, label, v, from, to, 100);
            if (plot_text_width(label, 11) > number) number = plot_text_width(label, 11);
        }
    }
    name = plot_names_width(columns, column_names, 11);
    cell = number + 14 < 46 ? 46 : number + 14;
    if (name + 10 > cell && name <= 84) cell = name + 10;
    rotated = name + 6 > cell;
    header = !column_names ? 6 : rotated ? 0.643 * name + 18 : 22;
    if (rotated && 0.766 * name - cell / 2 + 12 > right) right = 0.766 * name - cell / 2 + 12;
    left = plot_names_width(rows, row_names, 11) + 22;
    top = (title && *title ? 34 : 8) + header;
    width = left + columns * cell + right;
    if (width < left + 290) width = left + 290;
    height = top + rows * line + 40;

    plot_open(t, width, height, title);
    for (k = 0; k < columns; k++) {
        double from = low, to = high, x = left + k * cell;
        if (lowest) plot_heat_range(rows, columns, k, values, &from, &to);
        if (column_names && column_names[k]) {
            if (rotated) plot_rotated(t, x + cell / 2 + 2, top - 7, "start", 11, -40, column_names[k]);
            else plot_label(t, x + cell / 2, top - 7, "middle", 11, "", column_names[k]);
        }
        for (r = 0; r < rows; r++) {
            double v = values[(size_t)r * (size_t)columns + (size_t)k];
            plot_heat_cell(t, x, top + r * line, cell, line, v, from, to, lowest && v == from);
        }
    }
    for (r = 0; r < rows && row_names; r++) {
        plot_label(t, left - 8, top + line * (r + 0.5) + 4, "end", 11, "", row_names[r]);
    }
    plot_heat_legend(t, left, top + rows * line + 16, lowest, low, high);
    plot_close(t);
}

/* ---- Functions over three weights ---- */

#define PLOT_TERNARY_STEPS 60
#define PLOT_TERNARY_COLORS 48
#define PLOT_TERNARY_LEVELS 8       /* spaces between level lines */

/* Triangle with corner 0 at the top, 1 at the left and 2 at the right. Colours and lines are spaced by the square root
   of the height above the minimum, so that the rings around the minimum of a bowl are equally far apart. */
typedef struct plot_triangle {
    double left, bottom, step;      /* pixels; step between two points of a row of the grid */
    double low, high;
    double *values;                 /* row a = 0 .. steps has steps - a + 1 points; weight 0 is a / steps */
} plot_triangle;

static double *plot_ternary_row(const plot_triangle *g, int a)
{
    return g->values + a * (PLOT_TERNARY_STEPS + 1) - a * (a - 1) / 2;
}

/* Position of w0 = a / steps, w2 = b / steps, to a tenth of a pixel: there are thousands of them. */
static void plot_ternary_position(const plot_triangle *g, double a, double b, double at[2])
{
    at[0] = floor(10 * (g->left + (b + a / 2) * g->step) + 0.5) / 10;
    at[1] = floor(10 * (g->bottom - a * 0.86602540378443864676 * g->step) + 0.5) / 10;
}

static double plot_ternary_share(const plot_triangle *g, double value)
{
    return g->high > g->low ? sqrt((value - g->low) / (g->high - g->low)) : 0;
}

/* The three corners of triangle m of the strip above row a: even ones stand on the row, odd ones hang from the next. */
static int plot_triangle_corners(const plot_triangle *g, int a, int m, double corners[3][3])
{
    int k = m / 2, i, drawable = 1;
    int rows[3], indices[3];
    rows[0] = a;
    rows[1] = a + (m & 1);
    rows[2] = a + 1;
    indices[0] = k + (m & 1);
    indices[1] = k + 1;
    indices[2] = k;
    for (i = 0; i < 3; i++) {
        plot_ternary_position(g, rows[i], indices[i], corners[i]);
        corners[i][2] = plot_ternary_row(g, rows[i])[indices[i]];
        if (!plot_drawable(corners[i][2], 0)) drawable = 0;
    }
    return drawable;
}

/* Number of the colour, -1 for none. */
static int plot_ternary_color(const plot_triangle *g, int a, int m)
{
    double corners[3][3], share;
    int color;
    if (!plot_triangle_corners(g, a, m, corners)) return -1;
    share = plot_ternary_share(g, corners[0][2] / 3 + corners[1][2] / 3 + corners[2][2] / 3);
    color = share > 0 ? (int)(share * PLOT_TERNARY_COLORS) : 0;
    return color < PLOT_TERNARY_COLORS ? color : PLOT_TERNARY_COLORS - 1;
}

/* Neighbours of one colour in a strip become one shape, all shapes of one colour one path. */
static void plot_ternary_fill(mde_text *t, const plot_triangle *g)
{
    int color, a, m, start;
    for (color = 0; color < PLOT_TERNARY_COLORS; color++) {
        char hex[8];
        int any = 0;
        plot_ramp_color((color + 0.5) / PLOT_TERNARY_COLORS, hex);
        for (a = 0; a < PLOT_TERNARY_STEPS; a++) {
            int count = 2 * (PLOT_TERNARY_STEPS - a) - 1;
            for (m = 0; m < count; m++) {
                double p[4][2];
                if (plot_ternary_color(g, a, m) != color) continue;
                for (start = m; m + 1 < count && plot_ternary_color(g, a, m + 1) == color; m++) {}
                plot_ternary_position(g, a, (start + 1) / 2, p[0]);
                plot_ternary_position(g, a, m / 2 + 1, p[1]);
                plot_ternary_position(g, a + 1, (m + 1) / 2, p[2]);
                plot_ternary_position(g, a + 1, start / 2, p[3]);
                if (!any) mde_text_format(t, "<path fill=\"%s\" stroke=\"%s\" stroke-width=\"0.6\" d=\"", hex, hex);
                any = 1;
                mde_text_format(t, "M%.6g %.6gH%.6gL%.6g %.6gH%.6gz", p[0][0], p[0][1], p[1][0], p[2][0], p[2][1],
                                p[3][0]);
            }
        }
        if (any) mde_text_add(t, "\"/>\n");
    }
}

/* Marching triangles: a level crosses a triangle along the line between its crossings of two sides. */
static void plot_ternary_levels(mde_text *t, const plot_triangle *g)
{
    int level, a, m, i;
    mde_text_add(t, "<path fill=\"none\" stroke=\"#ffffff\" stroke-opacity=\"0.75\" stroke-width=\"1\" d=\"");
    for (level = 1; level < PLOT_TERNARY_LEVELS; level++) {
        double share = (double)level / PLOT_TERNARY_LEVELS, value = g->low + share * share * (g->high - g->low);
        for (a = 0; a < PLOT_TERNARY_STEPS; a++) {
            for (m = 0; m < 2 * (PLOT_TERNARY_STEPS - a) - 1; m++) {
                double corners[3][3], x[2] = { 0, 0 }, y[2] = { 0, 0 };
                int crossings = 0;
                if (!plot_triangle_corners(g, a, m, corners)) continue;
                for (i = 0; i < 3; i++) {
                    const double *p = corners[i], *q = corners[(i + 1) % 3];
                    double at;
                    if ((p[2] < value) == (q[2] < value) || crossings == 2) continue;
                    at = (value - p[2]) / (q[2] - p[2]);
                    x[crossings] = floor(10 * (p[0] + at * (q[0] - p[0])) + 0.5) / 10;
                    y[crossings++] = floor(10 * (p[1] + at * (q[1] - p[1])) + 0.5) / 10;
                }
                if (crossings == 2) mde_text_format(t, "M%.6g %.6gL%.6g %.6g", x[0], y[0], x[1], y[1]);
            }
        }
    }
    mde_text_add(t, "\"/>\n");
}

/* Boxes that are taken: x0, y0, x1, y1. The 12 labels of the sides and 26 marks with their names have room. */
typedef struct plot_box_list { double at[64][4]; int count; } plot_box_list;

static double plot_box_list_overlap(const plot_box_list *boxes, const double box[4])
{
    double sum = 0;
    int i;
    for (i = 0; i < boxes->count; i++) {
        const double *other = boxes->at[i];
        double wide = (box[2] < other[2] ? box[2] : other[2]) - (box[0] > other[0] ? box[0] : other[0]);
        double high = (box[3] < other[3] ? box[3] : other[3]) - (box[1] > other[1] ? box[1] : other[1]);
        if (wide > 0 && high > 0) sum += wide * high;
    }
    return sum;
}

static void plot_box_list_add(plot_box_list *boxes, double x0, double y0, double x1, double y1)
{
    double *box;
    if (boxes->count == 64) return;
    box = boxes->at[boxes->count++];
    box[0] = x0;
    box[1] = y0;
    box[2] = x1;
    box[3] = y1;
}

/* Each side carries the scale of one weight; the small lines point along the lines on which it is constant. */
static void plot_ternary_sides(mde_text *t, const plot_triangle *g, const char *const *names, plot_box_list *boxes)
{
    const double n = PLOT_TERNARY_STEPS, out = 1.2;
    double p[2], q[2];
    char label[16];
    int i;
    for (i = 20; i <= 80; i += 20) {
        double s = n * i / 100;
        snprintf(label, sizeof label, "%d%%", i);
        plot_ternary_position(g, s, n - s, p);                 /* weight 0, on the right side */
        plot_ternary_position(g, s, n - s + out, q);
        plot_line(t, p[0], p[1], q[0], q[1], PLOT_FAINT, 1, "");
        plot_text(t, q[0] + 3, q[1] + 4, "start", 10, " fill=\"" PLOT_FAINT "\"", label);
        plot_box_list_add(boxes, q[0], q[1] - 5, q[0] + 28, q[1] + 5);
        plot_ternary_position(g, n - s, 0, p);                 /* weight 1, on the left side */
        plot_ternary_position(g, n - s + out, -out, q);
        plot_line(t, p[0], p[1], q[0], q[1], PLOT_FAINT, 1, "");
        plot_text(t, q[0] - 3, q[1] + 1, "end", 10, " fill=\"" PLOT_FAINT "\"", label);
        plot_box_list_add(boxes, q[0] - 28, q[1] - 8, q[0], q[1] + 2);
        plot_ternary_position(g, 0, s, p);                     /* weight 2, along the bottom */
        plot_ternary_position(g, -out, s + out, q);
        plot_line(t, p[0], p[1], q[0], q[1], PLOT_FAINT, 1, "");
        plot_text(t, q[0] + 2, q[1] + 10, "middle", 10, " fill=\"" PLOT_FAINT "\"", label);
        plot_box_list_add(boxes, q[0] - 14, q[1] - 2, q[0] + 14, q[1] + 11);
    }
    if (!names) return;
    plot_ternary_position(g, n, 0, p);
    plot_label(t, p[0], p[1] - 10, "middle", 12, " font-weight=\"bold\"", names[0]);
    plot_ternary_position(g, 0, 0, p);
    plot_label(t, p[0], p[1] + 30, "middle", 12, " font-weight=\"bold\"", names[1]);
    plot_ternary_position(g, 0, n, p);
    plot_label(t, p[0], p[1] + 30, "middle", 12, " font-weight=\"bold\"", names[2]);
}

static void plot_ternary_legend(mde_text *t, const plot_triangle *g, double x, double y)
{
    char color[8], label[PLOT_NUMBER];
    int i;
    for (i = 0; i < PLOT_TERNARY_COLORS; i++) {
        plot_ramp_color((PLOT_TERNARY_COLORS - i - 0.5) / PLOT_TERNARY_COLORS, color);
        plot_rect(t, x, y + 3 * i, 14, i + 1 < PLOT_TERNARY_COLORS ? 4 : 3, color, "");
    }
    for (i = 0; i <= PLOT_TERNARY_LEVELS; i++) {
        double share = (double)i / PLOT_TERNARY_LEVELS, at = y + 3 * PLOT_TERNARY_COLORS * (1 - share);
        if (i > 0 && i < PLOT_TERNARY_LEVELS) plot_line(t, x, at, x + 14, at, "#ffffff", 1, "");
        plot_print_between(t, label, g->low + share * share * (g->high - g->low), g->low, g->high, 200);
        plot_text(t, x + 19, at + 3.5, "start", 10, "", label);
    }
}

/* The name goes where its overlap is the minimum: right, left, above, below, or at a corner of the mark. */
static void plot_mark_name(mde_text *t, plot_box_list *boxes, const double p[2], double width, const char *name)
{
    static const double dx[8] = { 9, -9, 0, 0, 7, 7, -7, -7 }, dy[8] = { 4, 4, -10, 18, -7, 15, -7, 15 };
    static const int side[8] = { 0, 2, 1, 1, 0, 0, 2, 2 };
    static const char *const anchors[3] = { "start", "middle", "end" };
    double wide = plot_name_width(name, 11), best = 1e300, box[4], taken[4] = { 0, 0, 0, 0 };
    int i, chosen = 0;
    for (i = 0; i < 8; i++) {
        double cost;
        box[0] = p[0] + dx[i] - wide * 0.5 * side[i];
        box[1] = p[1] + dy[i] - 9;
        box[2] = box[0] + wide;
        box[3] = box[1] + 12;
        cost = plot_box_list_overlap(boxes, box) + (box[0] < 2 || box[2] > width - 2 ? 1e6 : 0) + i * 1e-3;
        if (cost >= best) continue;
        best = cost;
        chosen = i;
        memcpy(taken, box, sizeof taken);
    }
    plot_box_list_add(boxes, taken[0], taken[1], taken[2], taken[3]);
    plot_label(t, p[0] + dx[chosen], p[1] + dy[chosen], anchors[side[chosen]], 11,
               " stroke=\"#ffffff\" stroke-width=\"3\" stroke-linejoin=\"round\" paint-order=\"stroke\"", name);
}

static void plot_ternary_marks(mde_text *t, const plot_triangle *g, double width, int count, const double *marks,
                               const char *const *names, plot_box_list *boxes)
{
    double p[2];
    int i, pass;
    for (pass = 0; pass < 2; pass++) {
        for (i = 0; i < count && marks; i++) {
            const double *w = marks + 3 * i;
            double sum = w[0] + w[1] + w[2];
            if (!plot_drawable(sum, 1) || w[0] < 0 || w[1] < 0 || w[2] < 0) continue;
            plot_ternary_position(g, w[0] / sum * PLOT_TERNARY_STEPS, w[2] / sum * PLOT_TERNARY_STEPS, p);
            if (pass == 1) {
                if (names && names[i]) plot_mark_name(t, boxes, p, width, names[i]);
                continue;
            }
            mde_text_format(t, "<g fill=\"%s\" stroke=\"#ffffff\" stroke-width=\"1.5\">\n", plot_palette_color(i + 1));
            plot_mark(t, p[0], p[1], 5, i);
            mde_text_add(t, "</g>\n");
            plot_box_list_add(boxes, p[0] - 6, p[1] - 6, p[0] + 6, p[1] + 6);
        }
    }
}

static void plot_ternary(mde_text *t, const char *title, const char *const *corner_names, plot_ternary_fn *f,
                         void *user, int count, const double *marks, const char *const *mark_names)
{
    const int n = PLOT_TERNARY_STEPS;
    const double side = 400, width = 640;
    plot_triangle g;
    plot_box_list boxes;
    double height, top = title && *title ? 62 : 36, corner[2], weights[3];
    int a, b, found = 0;
    if (!t || !f || mde_context_status(t->context)) return;
    memset(&g, 0, sizeof g);
    memset(&boxes, 0, sizeof boxes);
    g.step = side / n;
    g.left = 100;
    g.bottom = top + side * 0.86602540378443864676;
    height = g.bottom + 42;
    g.values = (double *)mde_alloc(t->context, (size_t)((n + 1) * (n + 2) / 2), sizeof *g.values);
    if (!g.values) return;
    for (a = 0; a <= n; a++) {
        for (b = 0; b <= n - a; b++) {
            double v;
            weights[0] = (double)a / n;
            weights[1] = (double)(n - a - b) / n;
            weights[2] = (double)b / n;
            v = f(weights, user);
            plot_ternary_row(&g, a)[b] = v;
            if (!plot_drawable(v, 0)) continue;
            if (!found || v < g.low) g.low = v;
            if (!found || v > g.high) g.high = v;
            found = 1;
        }
    }
    plot_open(t, width, height, title);
    if (found) {
        plot_ternary_fill(t, &g);
        if (g.high > g.low) plot_ternary_levels(t, &g);
        plot_ternary_legend(t, &g, 540, top);
    }
    plot_ternary_position(&g, n, 0, corner);
    mde_text_format(t, "<path fill=\"none\" stroke=\"%s\" d=\"M%.6g %.6gL%.6g %.6gH%.6gz\"/>\n", PLOT_FAINT, corner[0],
                    corner[1], plot_px(g.left), plot_px(g.bottom), plot_px(g.left + side));
    if (!found) plot_text(t, corner[0], g.bottom - 120, "middle", 12, "", "no data");
    plot_ternary_sides(t, &g, corner_names, &boxes);
    plot_ternary_marks(t, &g, width, count, marks, mark_names, &boxes);
    plot_close(t);
    mde_release(t->context, g.values);
}

#if defined(__GNUC__)
#pragma GCC diagnostic pop
#endif
#if defined(__clang__)
#pragma float_control(pop)
#elif defined(__GNUC__)
#pragma GCC pop_options
#endif
#endif
