// What the tensors are called. Ours are the original DiT's names, and so stand for both.
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "model/exchange.h"

enum { MAX_PARTS = 3 };

// %d is the block. A tensor of ours that is in no block and of theirs that is in every one is repeated there.
static const struct {
    const char *ours, *diffusers[MAX_PARTS];
} names[] = {
    {"x_embedder.proj", {"pos_embed.proj"}},
    {"t_embedder.mlp.0", {"transformer_blocks.%d.norm1.emb.timestep_embedder.linear_1"}},
    {"t_embedder.mlp.2", {"transformer_blocks.%d.norm1.emb.timestep_embedder.linear_2"}},
    {"y_embedder.embedding_table", {"transformer_blocks.%d.norm1.emb.class_embedder.embedding_table"}},
    {"blocks.%d.adaLN_modulation.1", {"transformer_blocks.%d.norm1.linear"}},
    {"blocks.%d.attn.qkv",
     {"transformer_blocks.%d.attn1.to_q", "transformer_blocks.%d.attn1.to_k", "transformer_blocks.%d.attn1.to_v"}},
    {"blocks.%d.attn.proj", {"transformer_blocks.%d.attn1.to_out.0"}},
    {"blocks.%d.mlp.fc1", {"transformer_blocks.%d.ff.net.0.proj"}},
    {"blocks.%d.mlp.fc2", {"transformer_blocks.%d.ff.net.2"}},
    {"final_layer.adaLN_modulation.1", {"proj_out_1"}},
    {"final_layer.linear", {"proj_out_2"}},
};
enum { N_NAMES = sizeof names / sizeof *names };

// `pattern` with `number` for its %d, if it has one.
static void fill(char out[EXCHANGE_NAME_SIZE], const char *pattern, int number, const char *suffix) {
    const char *place = strstr(pattern, "%d");
    if (place)
        snprintf(out, EXCHANGE_NAME_SIZE, "%.*s%d%s%s", (int)(place - pattern), pattern, number, place + 2, suffix);
    else
        snprintf(out, EXCHANGE_NAME_SIZE, "%s%s", pattern, suffix);
}

static int block_of(const char *ours) {
    static const char prefix[] = "blocks.";
    return strncmp(ours, prefix, strlen(prefix)) == 0 ? (int)strtol(ours + strlen(prefix), NULL, 10) : 0;
}

// The line of the table for "blocks.3.attn.qkv.weight": every dense model's tensor has one.
static int find_line(const char *ours) {
    for (int i = 0; i < N_NAMES; i++) {
        char name[EXCHANGE_NAME_SIZE];
        fill(name, names[i].ours, block_of(ours), "");
        size_t n = strlen(name);
        if (strncmp(name, ours, n) == 0 && ours[n] == '.') return i;
    }
    return 0;
}

ExchangePlaces exchange_places(ExchangeFormat format, const char *ours, int depth) {
    ExchangePlaces places = {1, 1};
    if (format == EXCHANGE_DIT) return places;
    int line = find_line(ours);
    while (places.n_parts < MAX_PARTS && names[line].diffusers[places.n_parts]) places.n_parts++;
    if (!strstr(names[line].ours, "%d") && strstr(names[line].diffusers[0], "%d")) places.n_copies = depth;
    return places;
}

void exchange_name(char out[EXCHANGE_NAME_SIZE], ExchangeFormat format, const char *ours, int part, int copy) {
    if (format == EXCHANGE_DIT) {
        snprintf(out, EXCHANGE_NAME_SIZE, "%s", ours);
        return;
    }
    int line = find_line(ours), block = strstr(names[line].ours, "%d") ? block_of(ours) : copy;
    fill(out, names[line].diffusers[part], block, strrchr(ours, '.'));
}
