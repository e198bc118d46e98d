/* SPDX-License-Identifier: Apache-2.0 */
#pragma once

/* The C interface of libmpo_gloo.so, the one place that knows Gloo. LibTorch
 * carries another version of Gloo whose symbols it exports, so this library is
 * loaded apart (docs/adr/) and nothing of C++ crosses its edge: no exception,
 * no standard type. One thread a context. */

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

enum mpo_gloo_result {
  MPO_GLOO_OK = 0,
  MPO_GLOO_BROKEN = 1,  /* A connection broke or stood still. */
  MPO_GLOO_INVALID = 2, /* A call that makes no sense. */
  MPO_GLOO_FAILED = 3,  /* Anything else. */
};

enum mpo_gloo_type {
  MPO_GLOO_FLOAT = 0,
  MPO_GLOO_DOUBLE = 1,
  MPO_GLOO_INT64 = 2,
  MPO_GLOO_BYTES = 3, /* broadcast and all_gather only. */
};

/* Where the ranks find each other's addresses. Both return 0, else not. */
struct mpo_gloo_store {
  void* user;
  int (*put)(void* user, const char* key, const char* data, size_t size);
  /* Waits for the key and calls take(taker, data, size). */
  int (*get)(void* user, const char* key,
             void (*take)(void* taker, const char* data, size_t size),
             void* taker);
};

/* Text of at most `capacity` bytes with the final 0. */
struct mpo_gloo_error {
  char* text;
  size_t capacity;
};

struct mpo_gloo_context;

/* Connects with all other ranks over TCP, listening on the address `host`. */
int mpo_gloo_connect(int rank, int ranks, const char* host, int64_t timeout_ms,
                     const struct mpo_gloo_store* store,
                     struct mpo_gloo_context** context,
                     struct mpo_gloo_error error);
void mpo_gloo_close(struct mpo_gloo_context* context);

/* Each wait within an operation ends after `timeout_ms`; after an error the
 * context is of no more use. `count` above 0. */
int mpo_gloo_all_reduce_sum(struct mpo_gloo_context* context, void* data,
                            size_t count, enum mpo_gloo_type type,
                            int64_t timeout_ms, struct mpo_gloo_error error);
int mpo_gloo_broadcast(struct mpo_gloo_context* context, void* data,
                       size_t bytes, int root, int64_t timeout_ms,
                       struct mpo_gloo_error error);
/* `all` has room for `bytes` of each rank. */
int mpo_gloo_all_gather(struct mpo_gloo_context* context, const void* own,
                        size_t bytes, void* all, int64_t timeout_ms,
                        struct mpo_gloo_error error);

#ifdef __cplusplus
}
#endif
