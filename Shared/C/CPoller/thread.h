// Whether the calling thread is one of libzmq's.
int cpoller_is_libzmq(void);

// libzmq gives up a descriptor.
void cpoller_forget(int descriptor);
