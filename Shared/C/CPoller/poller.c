#define _GNU_SOURCE
#include "CPoller.h"
#include "thread.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>

// libzmq (4.3.4, and still in 4.3.5) aborts its process because of what a peer does. Where a connection's queue is full it
// stops to wait for input, but epoll tells of a broken connection all the same, and libzmq then takes the connection out of
// its set and marks it (stream_engine_base.cpp, in_event_internal). If anything is to be written to it after that, a heartbeat
// that is due or the answer to a peer's that was read already, an assertion fails (out_event). A peer that sends more than is
// read and hangs up is enough.
//
// So libzmq never hears of a broken connection while it does not read from it: its calls of epoll come here, since the
// executable's symbols go before those of libc. A connection whose input is stopped is taken out of the set until it goes on,
// and where there is something to read, that is all that is told: reading finds the end. What may be written meanwhile is tried
// when it comes up, and again once input goes on.
//
// Only threads of libzmq are treated so; everybody else gets libc's.

// In the events of libzmq's own record of a descriptor, where epoll has no flags. It leaves them alone.
enum {
  reads = 1u << 22,   // It has waited for input: it is no connection that is being made, which waits for output only.
  absent = 1u << 23,  // It is not in the set now.
};

typedef int (*control_function)(int, int, int, struct epoll_event *);
typedef int (*wait_function)(int, struct epoll_event *, int, int);

static control_function real_control;
static wait_function real_wait;
static pthread_once_t once = PTHREAD_ONCE_INIT;

static void find(void) {
  real_control = (control_function)dlsym(RTLD_NEXT, "epoll_ctl");
  real_wait = (wait_function)dlsym(RTLD_NEXT, "epoll_wait");
}

// libzmq names its threads before they do anything, [PREFIX/]ZMQbg/….
enum owner { unknown, other, libzmq, bus };

static enum owner owner(void) {
  static _Thread_local enum owner known = unknown;
  if (known == unknown) {
    char name[16] = "", prefix[16];
    pthread_getname_np(pthread_self(), name, sizeof name);
    snprintf(prefix, sizeof prefix, "%d/ZMQbg", cpoller_thread_prefix);
    known = strncmp(name, prefix, strlen(prefix)) == 0 ? bus : strncmp(name, "ZMQbg", 5) == 0 ? libzmq : other;
  }
  return known;
}

int cpoller_is_libzmq(void) { return owner() != other; }

int cpoller_is_bus(void) { return owner() == bus; }

int epoll_ctl(int set, int operation, int descriptor, struct epoll_event *event) {
  pthread_once(&once, find);
  if (!cpoller_is_libzmq()) return real_control(set, operation, descriptor, event);
  if (operation == EPOLL_CTL_DEL) cpoller_forget(descriptor);
  if (event == NULL) return real_control(set, operation, descriptor, event);
  struct epoll_event asked = *event;
  asked.events &= ~(reads | absent);
  int is_absent = (event->events & absent) != 0;
  if (operation == EPOLL_CTL_DEL && is_absent) return 0;
  if (operation == EPOLL_CTL_MOD && asked.events & EPOLLIN) {
    event->events = asked.events | reads;
    return real_control(set, is_absent ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, descriptor, &asked);
  }
  if (operation == EPOLL_CTL_MOD && event->events & reads) {
    event->events |= absent;
    return is_absent ? 0 : real_control(set, EPOLL_CTL_DEL, descriptor, &asked);
  }
  return real_control(set, operation, descriptor, &asked);
}

int epoll_wait(int set, struct epoll_event *events, int most, int timeout) {
  pthread_once(&once, find);
  int count = real_wait(set, events, most, timeout);
  if (!cpoller_is_libzmq()) return count;
  for (int index = 0; index < count; index++) {
    if (events[index].events & EPOLLIN) events[index].events &= ~(EPOLLERR | EPOLLHUP);
  }
  return count;
}
