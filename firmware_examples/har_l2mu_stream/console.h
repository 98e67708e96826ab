/* SPDX-License-Identifier: Apache-2.0 OR MIT
 *
 * Lines of text for people, without printf. What does not fit a line is left out.
 */
#ifndef CONSOLE_H
#define CONSOLE_H

#include <stddef.h>
#include <stdint.h>

#define LINE_LENGTH 120

typedef struct {
    char text[LINE_LENGTH + 2]; /* the line's end and the string's */
    size_t length;
} line;

/* Append text, filled up with blanks to `width`. */
void line_text(line *to, const char *text, size_t width);

/* Append a label, then a decimal number behind so many blanks that it takes `width`. */
void line_number(line *to, const char *label, uint32_t value, size_t width);

/* Print the line and empty it. */
void line_print(line *to);

#endif /* CONSOLE_H */
