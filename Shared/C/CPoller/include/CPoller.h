// Stands between libzmq and the system in every process that it is linked to. See poller.c and meter.c.

// ZMQ_THREAD_NAME_PREFIX of the contexts whose connections are counted. Who else uses libzmq in the process, a benchmark for
// example, does not say what it took.
enum { cpoller_thread_prefix = 1 };

// Bytes that may come on a connection that was accepted after the last message that was taken from it. A peer that sends more
// sends one message without end, or to nobody that reads; its connection ends.
enum { cpoller_most_undelivered = 128 << 20 };

// A whole message that came on a connection was taken.
void cpoller_delivered(int descriptor);
