/* command_text.c: a message's body for people, as JSON and as base64. */
#include "client/command.h"

#include <inttypes.h>
#include <string.h>

/*
 * The length of the UTF-8 character at the front, 0 when there is none. *character becomes its code point.
 * Overlong forms, surrogates and what is over U+10FFFF are not UTF-8.
 */
static size_t decode(const uint8_t *at, size_t left, uint32_t *character)
{
    static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    size_t length = at[0] < 0x80 ? 1 : at[0] >> 5 == 6 ? 2 : at[0] >> 4 == 14 ? 3 : at[0] >> 3 == 30 ? 4 : 0;

    if (length == 0 || length > left)
        return 0;
    if (length == 1) {
        *character = at[0];
        return 1;
    }
    uint32_t value = at[0] & (0x7fu >> length);
    for (size_t i = 1; i < length; i++) {
        if (at[i] >> 6 != 2)
            return 0;
        value = value << 6 | (at[i] & 0x3fu);
    }
    if (value < least[length] || value > 0x10ffff || (value >= 0xd800 && value <= 0xdfff))
        return 0;
    *character = value;
    return length;
}

/*
 * What a terminal may take as an order: C0, DEL and C1. And what may show a line in another order than it has, or as
 * two: the marks of directions, and the separators of lines and paragraphs (Unicode Standard Annex 9).
 */
static bool is_control(uint32_t character)
{
    return character < 0x20 || (character >= 0x7f && character < 0xa0) || character == 0x061c ||
           (character >= 0x200e && character <= 0x200f) || (character >= 0x2028 && character <= 0x202e) ||
           (character >= 0x2066 && character <= 0x2069);
}

bool text_is_valid(const void *body, size_t length)
{
    const uint8_t *at = body;
    uint32_t character;

    for (size_t size; length > 0; at += size, length -= size) {
        size = decode(at, length, &character);
        if (size == 0)
            return false;
    }
    return true;
}

static void print_escape(FILE *out, uint32_t character)
{
    static const char letters[] = "abtnvfr"; /* 7 to 13 */

    if (character == '\\')
        fputs("\\\\", out);
    else if (character >= '\a' && character <= '\r')
        fprintf(out, "\\%c", letters[character - '\a']);
    else
        fprintf(out, character < 0x80 ? "\\x%02x" : "\\u%04x", character);
}

void text_print_escaped(FILE *out, const void *body, size_t length)
{
    const uint8_t *at = body;

    while (length > 0) {
        uint32_t character;
        size_t size = decode(at, length, &character);
        if (size == 0) {
            fprintf(out, "\\x%02x", *at);
            size = 1;
        } else if (is_control(character) || character == '\\') {
            print_escape(out, character);
        } else {
            fwrite(at, 1, size, out);
        }
        at += size;
        length -= size;
    }
}

void text_print_message(const struct relayhub_event *event, const char *name)
{
    if (name != NULL)
        printf("from %s: ", name);
    else
        printf("from %" PRIu64 ": ", event->sender);
    text_print_escaped(stdout, event->body, event->length);
    putchar('\n');
}

/* ---- JSON ---- */

/* A string with its quotes, of valid UTF-8. */
static void print_json_text(FILE *out, const void *body, size_t length)
{
    const uint8_t *at = body;

    putc('"', out);
    while (length > 0) {
        uint32_t character = 0;
        size_t size = decode(at, length, &character);
        if (character == '"' || character == '\\')
            fprintf(out, "\\%c", (int)character);
        else if (character == '\n')
            fputs("\\n", out);
        else if (is_control(character))
            fprintf(out, "\\u%04x", character);
        else
            fwrite(at, 1, size, out);
        at += size;
        length -= size;
    }
    putc('"', out);
}

/* Between quotes, of anything. */
static void print_base64(FILE *out, const void *body, size_t length)
{
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    const uint8_t *at = body;

    putc('"', out);
    for (; length > 0; at += 3, length -= length < 3 ? length : 3) {
        uint32_t three = (uint32_t)at[0] << 16;
        if (length > 1)
            three |= (uint32_t)at[1] << 8;
        if (length > 2)
            three |= at[2];
        putc(digits[three >> 18], out);
        putc(digits[three >> 12 & 63], out);
        putc(length > 1 ? digits[three >> 6 & 63] : '=', out);
        putc(length > 2 ? digits[three & 63] : '=', out);
    }
    putc('"', out);
}

void text_print_json_message(const struct relayhub_event *event)
{
    printf("{\"from\":\"%" PRIu64 "\",\"length\":%zu,", event->sender, event->length);
    if (text_is_valid(event->body, event->length)) {
        fputs("\"text\":", stdout);
        print_json_text(stdout, event->body, event->length);
    } else {
        fputs("\"base64\":", stdout);
        print_base64(stdout, event->body, event->length);
    }
    puts("}");
}

void text_print_message_as(enum format format, const struct relayhub_event *event)
{
    switch (format) {
    case FORMAT_TEXT:
        text_print_message(event, NULL);
        break;
    case FORMAT_JSON:
        text_print_json_message(event);
        break;
    case FORMAT_RAW:
        fwrite(event->body, 1, event->length, stdout);
        break;
    }
}

void text_print_json_ids(const uint64_t *ids, size_t count)
{
    putchar('[');
    for (size_t i = 0; i < count; i++)
        printf("%s\"%" PRIu64 "\"", i == 0 ? "" : ",", ids[i]);
    putchar(']');
}
