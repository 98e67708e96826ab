/* SPDX-License-Identifier: Apache-2.0 OR MIT */
#include "console.h"

#include "semihosting.h"

#define DIGITS 10 /* of the largest uint32_t */

static void put(line *to, char character)
{
    if (to->length < LINE_LENGTH) {
        to->text[to->length++] = character;
    }
}

void line_text(line *to, const char *text, size_t width)
{
    size_t length = 0;
    for (; text[length] != '\0'; length++) {
        put(to, text[length]);
    }
    for (; length < width; length++) {
        put(to, ' ');
    }
}

void line_number(line *to, const char *label, uint32_t value, size_t width)
{
    line_text(to, label, 0);
    char digits[DIGITS];
    size_t count = 0;
    do {
        digits[count++] = (char)('0' + value % 10);
        value /= 10;
    } while (value != 0);
    for (size_t filled = count; filled < width; filled++) {
        put(to, ' ');
    }
    while (count > 0) {
        put(to, digits[--count]);
    }
}

void line_print(line *to)
{
    to->text[to->length] = '\n';
    to->text[to->length + 1] = '\0';
    ek_print(to->text);
    to->length = 0;
}
