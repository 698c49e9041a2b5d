#define _GNU_SOURCE
#include "CPoller.h"
#include "thread.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>

// libzmq keeps the frames of a message until its last has come, however many there are: nobody sees them, and no option of a
// socket bounds them. So what it keeps is counted where it reads, from 0 with each message that somebody took; beyond the
// limits libzmq hears that the peer has hung up, and forgets what it kept. An empty frame has 2 bytes on the wire and 64 in
// memory, so frames are counted too: see framing.c.
//
// Only connections that the bus accepted are counted: who connects chose its peer.

enum { descriptors = 1 << 20 };  // DescriptorLimit raises the limit no further.

// By descriptor; only pages that are used take memory.
static cpoller_charge undelivered[descriptors];
// Of the thread of libzmq that reads the descriptor.
static cpoller_framing framings[descriptors];
static uint8_t is_counted[descriptors];

typedef ssize_t (*receive_function)(int, void *, size_t, int);
typedef int (*accept_function)(int, struct sockaddr *, socklen_t *, int);

static receive_function real_receive;
static accept_function real_accept;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void) {
  real_receive = (receive_function)dlsym(RTLD_NEXT, "recv");
  real_accept = (accept_function)dlsym(RTLD_NEXT, "accept4");
}

static int is_index(int descriptor) { return descriptor >= 0 && descriptor < descriptors; }

void cpoller_delivered(int descriptor) {
  if (!is_index(descriptor)) return;
  __atomic_store_n(&undelivered[descriptor].bytes, 0, __ATOMIC_RELAXED);
  __atomic_store_n(&undelivered[descriptor].frames, 0, __ATOMIC_RELAXED);
}

// The descriptor is libzmq's no longer.
void cpoller_forget(int descriptor) {
  if (is_index(descriptor)) __atomic_store_n(&is_counted[descriptor], 0, __ATOMIC_RELAXED);
}

int accept4(int listener, struct sockaddr *address, socklen_t *size, int flags) {
  pthread_once(&once, find);
  int descriptor = real_accept(listener, address, size, flags);
  if (is_index(descriptor) && cpoller_is_bus()) {
    cpoller_delivered(descriptor);
    framings[descriptor] = (cpoller_framing){0};
    __atomic_store_n(&is_counted[descriptor], 1, __ATOMIC_RELAXED);
  }
  return descriptor;
}

ssize_t recv(int descriptor, void *bytes, size_t size, int flags) {
  pthread_once(&once, find);
  ssize_t count = real_receive(descriptor, bytes, size, flags);
  if (count <= 0 || !is_index(descriptor) || !__atomic_load_n(&is_counted[descriptor], __ATOMIC_RELAXED)) return count;
  if (!cpoller_is_bus()) return count;
  cpoller_charge charge = cpoller_walk(&framings[descriptor], bytes, (size_t)count);
  int64_t held = __atomic_add_fetch(&undelivered[descriptor].bytes, charge.bytes, __ATOMIC_RELAXED);
  int64_t frames = __atomic_add_fetch(&undelivered[descriptor].frames, charge.frames, __ATOMIC_RELAXED);
  return held > cpoller_most_undelivered || frames > cpoller_most_frames ? 0 : count;
}
