/* Counts with every kind of handle. Build it with
 *   cc count.c -I ../include -L TARGET/release -ltollgate -o count
 * after `cargo build --release -p tollgate --features capi`. */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "tollgate.h"

int main(void) {
    const char *dimensions[] = {"region", "eu", "method", "GET"};
    tollgate_counter *requests = tollgate_counter_new("acme", "http.requests", 0, dimensions, 2);
    tollgate_max *peak = tollgate_max_new("acme", "http.peak", 0, NULL, 0);
    tollgate_histogram *sizes = tollgate_histogram_new("acme", "http.bytes", 0, NULL, 0);
    tollgate_unique *users = tollgate_unique_new("acme", "http.users", 0, NULL, 0);
    tollgate_level *sessions = tollgate_level_new("acme", "http.sessions", 0, NULL, 0);
    if (!requests || !peak || !sizes || !users || !sessions) {
        fprintf(stderr, "no handle: %s\n", tollgate_last_error());
        return 1;
    }
    for (int i = 0; i < 1000; i++) {
        tollgate_counter_add(requests, 1);
        tollgate_max_record(peak, i);
        tollgate_histogram_record(sizes, 100 * (uint64_t)i);
        tollgate_unique_insert(users, (const uint8_t *)&i, sizeof i);
    }
    tollgate_level_set(sessions, 3);
    tollgate_level_add(sessions, 2);
    tollgate_level_sub(sessions, 1);

    /* Names that no series can have are told. */
    if (tollgate_counter_new("not a tenant", "m", 0, NULL, 0) != NULL ||
        strstr(tollgate_last_error(), "tenant") == NULL) {
        return 2;
    }
    /* A process that ends at once waits until the agent has what it counted. */
    int handed_over = tollgate_wait_until_handed_over(10000);
    printf("handed over: %d, dropped: %" PRIu64 "\n", handed_over, tollgate_dropped());

    tollgate_counter_free(requests);
    tollgate_max_free(peak);
    tollgate_histogram_free(sizes);
    tollgate_unique_free(users);
    tollgate_level_free(sessions);
    return handed_over ? 0 : 3;
}
