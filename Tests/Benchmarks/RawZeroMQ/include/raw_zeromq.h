#ifndef RAW_ZEROMQ_H
#define RAW_ZEROMQ_H

#include <stddef.h>
#include <stdint.h>

// What libzmq itself does on this machine, without any layer of ours: two threads with a context each, over
// tcp://127.0.0.1. Each function runs about `seconds` and returns 0, or libzmq's error number.

typedef struct {
  uint64_t messages;
  double seconds;
} raw_rate;

// REQ to REP and back, one at a time; microseconds of each round trip, at most `capacity`, in `latencies`.
int raw_unary(size_t size, double seconds, double *latencies, size_t capacity, raw_rate *rate);

// DEALER to ROUTER and back, many under way; counts those that came back.
int raw_stream(size_t size, double seconds, raw_rate *rate);

// PUB to SUB without loss (the publisher waits at the high-water mark); counts those received.
int raw_publish(size_t size, double seconds, int high_water_mark, raw_rate *rate);

#endif
