#include "cli/html.h"

#include <string.h>

#include "base/file.h"

static const char *const style =
    "body{font:16px/1.5 system-ui,sans-serif;max-width:62rem;margin:2rem auto;padding:0 "
    "1rem;color:#222;background:#fff}"
    "h1{font-size:1.7rem}h2{font-size:1.2rem;margin-top:2.2rem;border-bottom:1px solid #ddd;padding-bottom:.2rem}"
    "pre{background:#f5f5f2;padding:.7rem 1rem;overflow-x:auto;font-size:.85rem;border-radius:4px;white-space:pre-wrap}"
    "figure{margin:1rem 0}figcaption{color:#555;font-size:.9rem}img{max-width:100%;border:1px solid #ddd}"
    "table{border-collapse:collapse;font-size:.92rem}th,td{padding:.35rem .8rem;border-bottom:1px solid #ddd;"
    "text-align:right}th:first-child,td:first-child{text-align:left}th{background:#f5f5f2}svg{max-width:100%}";

void html_text(FILE *out, const char *text) {
    for (; *text; text++) {
        switch (*text) {
        case '<': fputs("&lt;", out); break;
        case '>': fputs("&gt;", out); break;
        case '&': fputs("&amp;", out); break;
        case '"': fputs("&quot;", out); break;
        default: fputc(*text, out);
        }
    }
}

void html_element(FILE *out, const char *tag, const char *text) {
    if (!text) return;
    fprintf(out, "<%s>", tag);
    html_text(out, text);
    fprintf(out, "</%s>\n", tag);
}

void html_begin(FILE *out, const char *title) {
    fputs("<!doctype html>\n<html lang=\"en\"><head><meta charset=\"utf-8\">"
          "<meta name=\"viewport\" content=\"width=device-width\">\n<title>",
          out);
    html_text(out, title);
    fprintf(out, "</title>\n<style>%s</style></head><body>\n", style);
    html_element(out, "h1", title);
}

void html_end(FILE *out) {
    fputs("</body></html>\n", out);
}

static void write_base64(FILE *out, const uint8_t *data, size_t size) {
    static const char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (size_t i = 0; i < size; i += 3) {
        size_t n = size - i < 3 ? size - i : 3;
        uint32_t word = (uint32_t)data[i] << 16 | (n > 1 ? (uint32_t)data[i + 1] << 8 : 0) | (n > 2 ? data[i + 2] : 0);
        for (size_t d = 0; d < 4; d++) fputc(d <= n ? digits[word >> (18 - 6 * d) & 63] : '=', out);
    }
}

KinditStatus html_image(FILE *out, KinditContext *ctx, const char *path, const char *caption) {
    FileMap map;
    TRY(file_map(&map, ctx, path));
    const char *type = map.size > 3 && map.data[0] == 0xff  ? "jpeg"
                       : map.size > 3 && map.data[0] == 'R' ? "webp"
                                                            : "png";
    fprintf(out, "<figure><img alt=\"");
    html_text(out, caption ? caption : "");
    fprintf(out, "\" src=\"data:image/%s;base64,", type);
    write_base64(out, map.data, map.size);
    fputs("\">\n", out);
    html_element(out, "figcaption", caption);
    fputs("</figure>\n", out);
    file_unmap(&map);
    return KINDIT_OK;
}
