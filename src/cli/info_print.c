#include <math.h>
#include <stdio.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/info.h"

enum { KEY_COLUMN = 26, WIDTH = 100 };

static void print_number(const char *key, double value, bool bytes) {
    char buffer[32];
    if (bytes || strstr(key, "bytes"))
        printf("%s", cli_format_bytes(buffer, value));
    else if (fabs(value) < 10000)
        printf("%.6g", value);
    else if (value == floor(value) && value < 1e9)
        printf("%s (%.0f)", cli_format_count(buffer, value), value);
    else
        printf("%s", cli_format_count(buffer, value));
}

static void print_value(const char *key, const cJSON *value, bool bytes);

// "[128, 3, 4, 4]", or words one after the other; wrapped.
static void print_list(const cJSON *list, int indent) {
    char line[8192];
    size_t length = 0;
    const cJSON *item;
    line[0] = '\0';
    cJSON_ArrayForEach(item, list) {
        char number[32];
        snprintf(number, sizeof number, "%.6g", item->valuedouble);
        const char *text = cJSON_IsString(item) ? item->valuestring : number;
        if (length + strlen(text) + 8 > sizeof line) {
            snprintf(line + length, sizeof line - length, " ...");
            break;
        }
        length += (size_t)snprintf(line + length, sizeof line - length, "%s%s", length ? ", " : "", text);
    }
    cli_print_wrapped(line, indent, WIDTH);
}

static void print_row(const cJSON *row) {
    const cJSON *item;
    cJSON_ArrayForEach(item, row) {
        printf("  ");
        print_value(item->string, item, false);
    }
}

static void print_value(const char *key, const cJSON *value, bool bytes) {
    if (cJSON_IsNumber(value))
        print_number(key, value->valuedouble, bytes);
    else if (cJSON_IsString(value))
        printf("%s", value->valuestring);
    else if (cJSON_IsArray(value))
        print_list(value, KEY_COLUMN + 2);
    else
        printf("%s", cJSON_IsTrue(value) ? "yes" : cJSON_IsFalse(value) ? "no" : "-");
}

static void print_object(const cJSON *object, int indent, bool bytes) {
    const cJSON *item, *row;
    cJSON_ArrayForEach(item, object) {
        char key[64];
        snprintf(key, sizeof key, "%s", item->string);
        for (char *c = key; *c; c++)
            if (*c == '_') *c = ' ';
        if (cJSON_IsObject(item)) {
            printf("%*s%s\n", indent, "", key);
            print_object(item, indent + 2, strstr(item->string, "bytes") != NULL);
        } else if (cJSON_IsArray(item) && cJSON_IsObject(item->child)) {
            printf("%*s%s\n", indent, "", key);
            cJSON_ArrayForEach(row, item) {
                printf("%*s", indent, "");
                print_row(row);
                putchar('\n');
            }
        } else {
            printf("%*s%-*s  ", indent, "", KEY_COLUMN - indent, key);
            print_value(item->string, item, bytes);
            putchar('\n');
        }
    }
}

void info_print(const cJSON *json) {
    print_object(json, 0, false);
}
