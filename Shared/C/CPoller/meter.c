#define _GNU_SOURCE
#include "CPoller.h"
#include "thread.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdint.h>
#include <sys/socket.h>

// libzmq keeps the frames of a message until its last has come, however many there are: nobody sees them, and no option of a
// socket bounds them. So bytes are counted where libzmq reads them, from 0 with each message that somebody took; beyond the
// limit libzmq hears that the peer has hung up, and forgets what it kept.
//
// Only connections that the bus accepted are counted: who connects chose its peer.

enum { descriptors = 1 << 20 };  // DescriptorLimit raises the limit no further.

// By descriptor; only pages that are used take memory.
static int64_t undelivered[descriptors];
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
  if (is_index(descriptor)) __atomic_store_n(&undelivered[descriptor], 0, __ATOMIC_RELAXED);
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
    __atomic_store_n(&is_counted[descriptor], 1, __ATOMIC_RELAXED);
  }
  return descriptor;
}

ssize_t recv(int descriptor, void *bytes, size_t size, int flags) {
  pthread_once(&once, find);
  ssize_t count = real_receive(descriptor, bytes, size, flags);
  if (count <= 0 || !is_index(descriptor) || !__atomic_load_n(&is_counted[descriptor], __ATOMIC_RELAXED)) return count;
  if (!cpoller_is_bus()) return count;
  int64_t sum = __atomic_add_fetch(&undelivered[descriptor], count, __ATOMIC_RELAXED);
  return sum > cpoller_most_undelivered ? 0 : count;
}
