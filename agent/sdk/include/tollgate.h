/* Tollgate: count usage inside an application. See docs/sdk.md.
 *
 * Handles may be used by any number of threads until they are freed. Counting never waits and
 * never fails: what finds no room is dropped and noted in tollgate_dropped(). A null handle
 * counts nothing. Names are UTF-8; `dimensions` are keys and values in turn, `pairs` of them.
 * A function that makes a handle returns NULL for names that no series can have, and
 * tollgate_last_error() says why.
 *
 * Call nothing of this in a signal handler: the count that a signal interrupts would overwrite
 * the handler's. Set a flag or write to a pipe there, and count where the program looks at that.
 */
#ifndef TOLLGATE_H
#define TOLLGATE_H

#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Settings of the process, before its first count. `socket` may be NULL for the default, the
 * variable TOLLGATE_SOCKET or /run/tollgate-agent/sdk.sock; `page_bytes` 0 for the default.
 * Without `thread`, call tollgate_poll() now and then. 0 on success, -1 otherwise. */
int tollgate_options(const char *socket, uint64_t page_bytes, int thread);

/* Events of this process that were not counted. */
uint64_t tollgate_dropped(void);

/* Waits at most `millis` until an agent has the page, from when on the end of the process
 * loses nothing; 1 if one has it, 0 otherwise. */
int tollgate_wait_until_handed_over(uint32_t millis);

/* One step of the connection, for processes without the thread; 1 if an agent has the page. */
int tollgate_poll(void);

/* Why the last call of this thread failed, or NULL; valid until the next failure. */
const char *tollgate_last_error(void);

/* A counter; for meters with the aggregation sum. */
typedef struct tollgate_counter tollgate_counter;
tollgate_counter *tollgate_counter_new(const char *tenant, const char *meter, uint8_t scale,
                               const char *const *dimensions, size_t pairs);
void tollgate_counter_free(tollgate_counter *handle);
/* Adds `n` in one event; at most 2^56 - 1, more is dropped and noted. */
void tollgate_counter_add(const tollgate_counter *handle, uint64_t n);

/* The largest value of each window; for the aggregation max. */
typedef struct tollgate_max tollgate_max;
tollgate_max *tollgate_max_new(const char *tenant, const char *meter, uint8_t scale,
                               const char *const *dimensions, size_t pairs);
void tollgate_max_free(tollgate_max *handle);
/* Takes a value into account. */
void tollgate_max_record(const tollgate_max *handle, int64_t value);

/* Values by their size; for the aggregation distribution. */
typedef struct tollgate_histogram tollgate_histogram;
tollgate_histogram *tollgate_histogram_new(const char *tenant, const char *meter, uint8_t scale,
                               const char *const *dimensions, size_t pairs);
void tollgate_histogram_free(tollgate_histogram *handle);
/* Records a value, below 2^56. */
void tollgate_histogram_record(const tollgate_histogram *handle, uint64_t value);

/* A level that is billed by the time that it holds; for the aggregation time_weighted. */
typedef struct tollgate_level tollgate_level;
tollgate_level *tollgate_level_new(const char *tenant, const char *meter, uint8_t scale,
                               const char *const *dimensions, size_t pairs);
void tollgate_level_free(tollgate_level *handle);
/* The level is `value` from now on. */
void tollgate_level_set(const tollgate_level *handle, uint64_t value);
/* The level is higher by `n` from now on. */
void tollgate_level_add(const tollgate_level *handle, uint64_t n);
/* The level is lower by `n` from now on; not below 0. */
void tollgate_level_sub(const tollgate_level *handle, uint64_t n);

/* How many different values each window had; for the aggregation unique. */
typedef struct tollgate_unique tollgate_unique;
tollgate_unique *tollgate_unique_new(const char *tenant, const char *meter, uint8_t scale,
                               const char *const *dimensions, size_t pairs);
void tollgate_unique_free(tollgate_unique *handle);
/* Takes `length` bytes into account as one value. */
void tollgate_unique_insert(const tollgate_unique *handle, const uint8_t *value, size_t length);

#ifdef __cplusplus
}
#endif

#endif
