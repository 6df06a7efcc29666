/* PNG files in image sets: with stb_image.h where the compiler finds it, otherwise with a stand-in for its four
   functions that reads a format of its own (TOY, width, height, channels, then bytes), so that what dagan.h does with
   them is tested all the same. */
#ifndef TEST_LINKED
#define MDEMIX_IMPLEMENTATION
#endif
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
        CHECK_TEXT(mde_error(c), "");
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

int main(void)
{
    TEST(grey_colour_and_alpha_are_read);
    TEST(what_the_decoder_refuses_is_an_error_that_names_the_file);
#ifdef REAL_STB
    TEST(omniglot_folders_are_read);
#endif
    return test_end();
}
