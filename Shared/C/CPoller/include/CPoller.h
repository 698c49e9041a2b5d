// Stands between libzmq and the system in every process that it is linked to. See poller.c and meter.c.
#include <stddef.h>
#include <stdint.h>

// ZMQ_THREAD_NAME_PREFIX of the contexts whose connections are counted. Who else uses libzmq in the process, a benchmark for
// example, does not say what it took.
enum { cpoller_thread_prefix = 1 };

// What libzmq may hold of a connection that was accepted, since the last message that was taken from it: bytes with what it keeps
// beside them, and frames. A peer that sends more sends one message without end, or to nobody that reads; its connection ends.
// A peer's credit allows 256 MiB and a message of 32 MiB more; a thousand buffers that libzmq keeps have 18 MiB.
// A thousand messages, as many as may wait for a server, have 67,000 frames at most; dropping as many takes milliseconds.
enum { cpoller_most_undelivered = 320 << 20, cpoller_most_frames = 100000 };

// A whole message that came on a connection was taken.
void cpoller_delivered(int descriptor);

// Where in ZMTP's frames the bytes of a connection have come to; zero at its start.
typedef struct {
  uint64_t rest;  // Bytes of the frame that are still to come, or what is known of its length.
  uint8_t state;
  uint8_t seen;  // Bytes of the greeting, or bytes of the length that are still to come.
} cpoller_framing;

// What libzmq holds for some bytes.
typedef struct {
  int64_t bytes;
  int64_t frames;
} cpoller_charge;

// The next bytes of a connection, whatever they are.
cpoller_charge cpoller_walk(cpoller_framing *framing, const void *bytes, size_t count);
