// Whether the calling thread is one of libzmq's.
int cpoller_is_libzmq(void);

// Whether it is one of a context of the bus: see cpoller_thread_prefix.
int cpoller_is_bus(void);

// libzmq gives up a descriptor.
void cpoller_forget(int descriptor);
