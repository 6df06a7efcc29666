/* PNG files in image sets: with stb_image.h where the compiler finds it, otherwise with a stand-in for its four
   functions that reads a format of its own (TOY, width, height, channels, then bytes), so that what dagan.h does with
   them is tested all the same. */
#include <stdlib.h>
#include <string.h>

#if defined(__has_include) && !defined(TEST_NO_STB)
#if __has_include(<stb_image.h>)
#define REAL_STB <stb_image.h>
#elif __has_include(<stb/stb_image.h>)
#define REAL_STB <stb/stb_image.h>
#endif
#endif

#ifdef REAL_STB
#define STBI_NO_STDIO
#define STB_IMAGE_IMPLEMENTATION
#include REAL_STB
#else
#define STBI_INCLUDE_STB_IMAGE_H
typedef unsigned char stbi_uc;

static int stbi_info_from_memory(const stbi_uc *bytes, int size, int *width, int *height, int *channels)
{
    if (size < 6 || memcmp(bytes, "TOY", 3) != 0) return 0;
    *width = bytes[3];
    *height = bytes[4];
    *channels = bytes[5];
    return 1;
}

static stbi_uc *stbi_load_from_memory(const stbi_uc *bytes, int size, int *width, int *height, int *channels,
                                      int wanted)
{
    stbi_uc *out;
    size_t total;
    if (wanted != 0 || !stbi_info_from_memory(bytes, size, width, height, channels)) return NULL;
    total = (size_t)(*width * *height * *channels);
    if ((size_t)size != total + 6) return NULL;
    out = (stbi_uc *)malloc(total);
    if (out) memcpy(out, bytes + 6, total);
    return out;
}

static void stbi_image_free(void *data)
{
    free(data);
}

static const char *stbi_failure_reason(void)
{
    return "not a toy";
}
#endif

#define DAGAN_IMPLEMENTATION
#include "../dagan.h"
#include "test.h"

#define FOLDER "build/test_dagan_png.tmp"

/* Opens a folder with one image of 2 x 1 pixels. */
static dagan_images *open_one(mde_context *c, int channels, const unsigned char *pixels)
{
    dagan_images_desc desc;
    CHECK(mde_make_folder(c, FOLDER "/one") == MDE_OK);
#ifdef REAL_STB
    mde_png_write(c, FOLDER "/one/0.PNG", 2, 1, channels, pixels);
#else
    {
        unsigned char bytes[64] = { 'T', 'O', 'Y', 2, 1 };
        bytes[5] = (unsigned char)channels;
        memcpy(bytes + 6, pixels, (size_t)(2 * channels));
        mde_file_write(c, FOLDER "/one/0.PNG", bytes, (size_t)(6 + 2 * channels));
    }
#endif
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/one";
    desc.size = 2;
    return dagan_images_open(c, &desc);
}

static void grey_colour_and_alpha_are_read(void)
{
    static const struct { int channels; unsigned char pixels[8]; float top[6]; } cases[] = {
        { 1, { 0, 255 }, { -1, 1 } },
        { 1, { 51, 204 }, { -0.6f, 0.6f } },
        { 3, { 0, 51, 255, 204, 0, 0 }, { -1, -0.6f, 1, 0.6f, -1, -1 } },
        { 4, { 0, 0, 255, 255, 0, 0, 0, 51 }, { -1, -1, 1, 0.6f, 0.6f, 0.6f } },        /* the second: a fifth of ink */
#ifndef REAL_STB
        { 2, { 0, 255, 0, 0 }, { -1, 1 } },                                             /* nothing on white paper */
#endif
    };
    mde_context *c = mde_context_create(NULL);
    size_t i;
    int k;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        dagan_images *set = open_one(c, cases[i].channels, cases[i].pixels);
        int wanted = cases[i].channels < 3 ? 1 : 3, height, width, channels;
        dagan_images_shape(set, &height, &width, &channels);
        CHECK(height == 2 && width == 2 && channels == wanted);
        for (k = 0; set && k < 4 * wanted; k++) {
            CLOSE(dagan_images_pixels(set, 0, 0)[k], cases[i].top[k % (2 * wanted)], 1e-6);
        }
        CHECK(*mde_error(c) == 0);
    }
    mde_context_free(c);
}

static void what_the_decoder_refuses_is_an_error_that_names_the_file(void)
{
    static const char *const files[] = { "", "no image at all", "TOY\2\2\1ab", "TOY\0\0\0011234",
                                         "\x89PNG\r\n\x1A\n" };
    mde_context *c = mde_context_create(NULL);
    dagan_images_desc desc;
    size_t i;
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/bad";
    mde_make_folder(c, FOLDER "/bad");
    for (i = 0; i < sizeof files / sizeof *files; i++) {
        mde_file_write(c, FOLDER "/bad/0.jpeg", files[i], i == 3 ? 10 : strlen(files[i]));
        CHECK(!dagan_images_open(c, &desc) && mde_context_status(c) == MDE_BAD_FILE);
        CHECK_TEXT(mde_error(c), "bad/0.jpeg: ");
        mde_clear_error(c);
    }
    mde_context_free(c);
}

#ifdef REAL_STB
/* ---- PNG files chunk by chunk ---- */

typedef struct png { unsigned char bytes[512]; size_t size; } png;

static void png_number(unsigned char *at, uint32_t value)
{
    int k;
    for (k = 0; k < 4; k++) at[k] = (unsigned char)(value >> (24 - 8 * k));
}

static void png_chunk(png *p, const char *name, const void *data, size_t length)
{
    unsigned char *at = p->bytes + p->size;
    uint32_t crc = 0xFFFFFFFFu;
    size_t i;
    int k;
    png_number(at, (uint32_t)length);
    memcpy(at + 4, name, 4);
    memcpy(at + 8, data, length);
    for (i = 4; i < 8 + length; i++) {
        crc ^= at[i];
        for (k = 0; k < 8; k++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    png_number(at + 8 + length, ~crc);
    p->size += 12 + length;
}

/* An image of 2 x 1 pixels: kind 0 grey, 3 by palette; exif: an orientation, 0: none. */
static png png_of(int kind, int first, int second, int colours, int exif)
{
    static const unsigned char palette[6] = { 255, 0, 0, 0, 0, 255 };
    unsigned char header[13] = { 0, 0, 0, 2, 0, 0, 0, 1, 8, 0, 0, 0, 0 };
    unsigned char data[14] = { 0x78, 1, 1, 3, 0, 0xFC, 0xFF, 0 };
    unsigned char tiff[26] = { 'M', 'M', 0, 42, 0, 0, 0, 8, 0, 1, 1, 0x12, 0, 3, 0, 0, 0, 1 };
    uint32_t a, b;
    png p;
    p.size = 8;
    memcpy(p.bytes, "\x89PNG\r\n\x1A\n", 8);
    header[9] = (unsigned char)kind;
    png_chunk(&p, "IHDR", header, 13);
    tiff[19] = (unsigned char)exif;
    if (exif) png_chunk(&p, "eXIf", tiff, sizeof tiff);
    if (kind == 3) png_chunk(&p, "PLTE", palette, (size_t)(3 * colours));
    data[8] = (unsigned char)first;
    data[9] = (unsigned char)second;
    a = 1 + 0 + (uint32_t)first + (uint32_t)second;
    b = 1 + (1 + (uint32_t)first) + a;
    png_number(data + 10, b << 16 | a);
    png_chunk(&p, "IDAT", data, sizeof data);
    png_chunk(&p, "IEND", data, 0);
    return p;
}

static dagan_images *open_png(mde_context *c, const png *p, int size)
{
    dagan_images_desc desc;
    CHECK(mde_make_folder(c, FOLDER "/made") == MDE_OK);
    mde_file_write(c, FOLDER "/made/x.png", p->bytes, p->size);
    memset(&desc, 0, sizeof desc);
    desc.path = FOLDER "/made";
    desc.size = size;
    return dagan_images_open(c, &desc);
}

static void refused(mde_context *c, dagan_images *set, const char *says)
{
    CHECK(set == NULL && mde_context_status(c) == MDE_BAD_FILE);
    CHECK_TEXT(mde_error(c), "made/x.png: ");
    CHECK_TEXT(mde_error(c), says);
    mde_clear_error(c);
}

static void damaged_png_files_are_refused_by_name(void)
{
    mde_context *c = mde_context_create(NULL);
    png p = png_of(3, 0, 1, 2, 0);
    dagan_images *set = open_png(c, &p, 2);
    CHECK(set && dagan_images_pixels(set, 0, 0)[0] == 1 && dagan_images_pixels(set, 0, 0)[5] == 1);
    p = png_of(3, 0, 2, 2, 0);
    refused(c, open_png(c, &p, 2), "a colour beyond its palette of 2");
    p = png_of(3, 255, 0, 1, 0);
    refused(c, open_png(c, &p, 2), "a colour beyond its palette of 1");
    p = png_of(0, 0, 255, 0, 0);
    CHECK(open_png(c, &p, 2) != NULL);
    p.bytes[p.size - 12 - 4 - 3] ^= 4;          /* within IDAT */
    refused(c, open_png(c, &p, 2), "checksum of the chunk at byte 33");
    p = png_of(0, 0, 255, 0, 0);
    p.size -= 13;
    refused(c, open_png(c, &p, 2), "ends within a chunk");
    p = png_of(0, 0, 255, 0, 0);                /* width and height that no file of this size has */
    png_number(p.bytes + 16, 40000);
    png_number(p.bytes + 20, 1600);
    {
        png q = p;
        q.size = 8;
        png_chunk(&q, "IHDR", p.bytes + 16, 13);
        png_chunk(&q, "IDAT", p.bytes + 41, 14);
        png_chunk(&q, "IEND", "", 0);
        refused(c, open_png(c, &q, 2), "cannot hold the 1600 x 40000 pixels");
    }
    mde_context_free(c);
}

/* BMP and, as another one that stb_image.h reads, GIF: 2 x 1 pixels, black and white. */
static void bmp_and_gif_are_read(void)
{
    static const unsigned char bmp[62] = {
        'B', 'M', 62, 0, 0, 0, 0, 0, 0, 0, 54, 0, 0, 0, 40, 0, 0, 0, 2, 0, 0, 0, 1, 0, 0, 0, 1, 0, 24, 0, 0, 0, 0, 0, 8, 0,
        0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255, 255, 255, 0, 0
    };
    static const unsigned char gif[] = { 'G', 'I', 'F', '8', '9', 'a', 2, 0, 1, 0, 0x80, 0, 0, 0, 0, 0, 255, 255, 255,
                                         0x2C, 0, 0, 0, 0, 2, 0, 1, 0, 0, 2, 2, 0x44, 0x0A, 0, 0x3B };
    mde_context *c = mde_context_create(NULL);
    dagan_images_desc desc;
    int kind, k;
    memset(&desc, 0, sizeof desc);
    desc.size = 2;
    desc.channels = 1;
    for (kind = 0; kind < 2; kind++) {
        dagan_images *set;
        desc.path = kind ? FOLDER "/gif" : FOLDER "/bmp";
        CHECK(mde_make_folder(c, desc.path) == MDE_OK);
        if (kind) mde_file_write(c, FOLDER "/gif/a.GIF", gif, sizeof gif);
        else mde_file_write(c, FOLDER "/bmp/a.bmp", bmp, sizeof bmp);
        set = dagan_images_open(c, &desc);
        CHECK(*mde_error(c) == 0);
        for (k = 0; set && k < 4; k++) CLOSE(dagan_images_pixels(set, 0, 0)[k], k % 2 ? 1 : -1, 1e-6);
    }
    mde_context_free(c);
}

/* Stored black, white from left to right. */
static void pictures_are_turned_as_their_orientation_says(void)
{
    static const struct { int orientation; float want[4]; } cases[] = {
        { 1, { -1, 1, -1, 1 } }, { 2, { 1, -1, 1, -1 } }, { 3, { 1, -1, 1, -1 } }, { 6, { -1, -1, 1, 1 } },
        { 8, { 1, 1, -1, -1 } }, { 77, { -1, 1, -1, 1 } }
    };
    const char *shared = getenv("MDEMIX_SHARED");
    mde_context *c = mde_context_create(NULL);
    dagan_images_desc desc;
    char path[500];
    size_t i;
    int k;
    for (i = 0; i < sizeof cases / sizeof *cases; i++) {
        png p = png_of(0, 0, 255, 0, cases[i].orientation);
        dagan_images *set = open_png(c, &p, 2);
        CHECK(set != NULL);
        for (k = 0; set && k < 4; k++) CHECK(dagan_images_pixels(set, 0, 0)[k] == cases[i].want[k]);
    }
    /* A JPEG segment by itself, and whole files where there are some. */
    {
        unsigned char jpeg[64] = { 0xFF, 0xD8, 0xFF, 0xE0, 0, 4, 0, 0, 0xFF, 0xE1, 0, 34, 'E', 'x', 'i', 'f', 0, 0,
                                   'I', 'I', 42, 0, 8, 0, 0, 0, 1, 0, 0x12, 1, 3, 0, 1, 0, 0, 0, 6, 0, 0, 0, 0, 0, 0, 0,
                                   0xFF, 0xDA };
        size_t size;
        CHECK(dagan__jpeg_orientation(jpeg, 46) == 6);
        for (size = 2; size < 40; size++) CHECK(dagan__jpeg_orientation(jpeg, size) == 1);
        jpeg[22] = 200;                         /* a directory beyond the end */
        CHECK(dagan__jpeg_orientation(jpeg, 46) == 1);
    }
    snprintf(path, sizeof path, "%.400s/cases/images/exif-ignored/set", shared ? shared : "../shared");
    if (mde_is_folder(path)) {
        unsigned char *bytes;
        size_t size;
        dagan_images *set;
        memset(&desc, 0, sizeof desc);
        desc.path = path;
        desc.size = 4;
        set = dagan_images_open(c, &desc);
        CHECK(set != NULL);
        snprintf(path + strlen(path), 20, "/a/x.jpg");
        bytes = mde_file_read(c, path, 1 << 20, &size);
        CHECK(bytes && dagan__jpeg_orientation(bytes, size) == 6);
    }
    mde_context_free(c);
}

/* The folders alphabet/character/NNNN_DD.png of Omniglot: ink is black there. */
static void omniglot_folders_are_read(void)
{
    const char *shared = getenv("MDEMIX_SHARED");
    mde_context *c = mde_context_create(NULL);
    dagan_images_desc desc;
    dagan_images *set;
    char command[1000];
    if (!shared) shared = "../shared";
    mde_make_folder(c, FOLDER);
    snprintf(command, sizeof command, "unzip -q -o '%.400s/data/omniglot/images_background_small1.zip' "
             "'*/Latin/*' -d '%s' > %s/log 2>&1", shared, FOLDER, FOLDER);
    if (system(command) != 0) {
        test_skip("omniglot_folders_are_read", "no zip file in MDEMIX_SHARED or ../shared, or no unzip");
    } else {
        const float *p;
        double ink = 0;
        int i;
        memset(&desc, 0, sizeof desc);
        desc.path = FOLDER "/images_background_small1";
        desc.invert = 1;
        set = dagan_images_open(c, &desc);
        CHECK(dagan_images_class_count(set) == 26 && dagan_images_count(set) == 520);
        CHECK(strcmp(dagan_images_name(set, 4), "Latin/character05") == 0);
        p = dagan_images_pixels(set, 0, 0);
        for (i = 0; p && i < 784; i++) ink += 0.5 + 0.5 * (double)p[i];
        CHECK(ink > 20 && ink < 120);
    }
    mde_context_free(c);
}
#endif

/* By EXIF's numbers the first row and column of what is stored are shown at: 2 top right, 3 bottom right, 4 bottom left,
   5 left top, 6 right top, 7 right bottom, 8 left bottom. */
static void every_orientation_turns_an_image_upright(void)
{
    static const char *const want[9] = { "abcdef", "abcdef", "cbafed", "fedcba", "defabc", "adbecf", "daebfc", "fcebda",
                                         "cfbead" };
    mde_context *c = mde_context_create(NULL);
    float in[6];
    int o, i;
    for (i = 0; i < 6; i++) in[i] = (float)('a' + i);
    for (o = 0; o < 9; o++) {
        dagan__size size = dagan__size_from(2, 3, 1);
        const float *out = dagan__oriented(c, in, &size, o);
        CHECK(size.height == (o >= 5 ? 3 : 2) && size.width == (o >= 5 ? 2 : 3));
        for (i = 0; i < 6; i++) CHECK(out[i] == (float)want[o][i]);
    }
    mde_context_free(c);
}

int main(void)
{
    TEST(grey_colour_and_alpha_are_read);
    TEST(what_the_decoder_refuses_is_an_error_that_names_the_file);
    TEST(every_orientation_turns_an_image_upright);
#ifdef REAL_STB
    TEST(damaged_png_files_are_refused_by_name);
    TEST(bmp_and_gif_are_read);
    TEST(pictures_are_turned_as_their_orientation_says);
    TEST(omniglot_folders_are_read);
#endif
    return test_end();
}
