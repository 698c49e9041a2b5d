// clock_gettime is not C11.
#define _POSIX_C_SOURCE 200809L

#include "raw_zeromq.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <zmq.h>

static double now(void) {
  struct timespec time;
  clock_gettime(CLOCK_MONOTONIC, &time);
  return (double)time.tv_sec + (double)time.tv_nsec * 1e-9;
}

typedef struct {
  void *context;
  void *socket;
  char endpoint[128];
} peer;

static int set(void *socket, int option, int value) { return zmq_setsockopt(socket, option, &value, sizeof value); }

// A high-water mark of 0 is none.
static int peer_open(peer *self, int type, const char *connect, int high_water_mark) {
  memset(self, 0, sizeof *self);
  size_t size = sizeof self->endpoint;
  if ((self->context = zmq_ctx_new()) == NULL) return zmq_errno();
  if ((self->socket = zmq_socket(self->context, type)) == NULL) return zmq_errno();
  if (set(self->socket, ZMQ_LINGER, 0) != 0) return zmq_errno();
  if (set(self->socket, ZMQ_SNDHWM, high_water_mark) != 0 || set(self->socket, ZMQ_RCVHWM, high_water_mark) != 0)
    return zmq_errno();
  if (type == ZMQ_SUB && zmq_setsockopt(self->socket, ZMQ_SUBSCRIBE, "", 0) != 0) return zmq_errno();
  if (connect != NULL) return zmq_connect(self->socket, connect) != 0 ? zmq_errno() : 0;
  if (zmq_bind(self->socket, "tcp://127.0.0.1:*") != 0) return zmq_errno();
  return zmq_getsockopt(self->socket, ZMQ_LAST_ENDPOINT, self->endpoint, &size) != 0 ? zmq_errno() : 0;
}

static void peer_close(peer *self) {
  if (self->socket != NULL) zmq_close(self->socket);
  if (self->context != NULL) zmq_ctx_term(self->context);
}

// Sends back whatever arrives, all its frames; an empty last frame ends the thread.
static void *echo(void *argument) {
  peer *self = argument;
  for (;;) {
    zmq_msg_t message;
    zmq_msg_init(&message);
    if (zmq_msg_recv(&message, self->socket, 0) < 0) return NULL;
    int more = zmq_msg_more(&message);
    if (!more && zmq_msg_size(&message) == 0) return NULL;
    if (zmq_msg_send(&message, self->socket, more ? ZMQ_SNDMORE : 0) < 0) return NULL;
  }
}

int raw_unary(size_t size, double seconds, double *latencies, size_t capacity, raw_rate *rate) {
  peer server, client = {0};
  pthread_t thread;
  char *buffer = calloc(1, size);
  int error = peer_open(&server, ZMQ_REP, NULL, 0);
  if (error == 0) error = peer_open(&client, ZMQ_REQ, server.endpoint, 0);
  if (error == 0 && pthread_create(&thread, NULL, echo, &server) == 0) {
    double begin = now(), end = begin + seconds, last = begin;
    rate->messages = 0;
    while (last < end) {
      if (zmq_send(client.socket, buffer, size, 0) < 0 || zmq_recv(client.socket, buffer, size, 0) < 0) {
        error = zmq_errno();
        break;
      }
      double time = now();
      if (rate->messages < capacity) latencies[rate->messages] = (time - last) * 1e6;
      rate->messages += 1;
      last = time;
    }
    rate->seconds = last - begin;
    zmq_send(client.socket, NULL, 0, 0);
    pthread_join(thread, NULL);
  }
  peer_close(&client);
  peer_close(&server);
  free(buffer);
  return error;
}

int raw_stream(size_t size, double seconds, raw_rate *rate) {
  peer server, client = {0};
  pthread_t thread;
  char *buffer = calloc(1, size);
  int error = peer_open(&server, ZMQ_ROUTER, NULL, 0);
  // Bounded by the window below: a ROUTER at its mark would drop what the client waits for.
  if (error == 0) error = peer_open(&client, ZMQ_DEALER, server.endpoint, 0);
  if (error == 0 && pthread_create(&thread, NULL, echo, &server) == 0) {
    // As many bytes under way as a call of the bus may have.
    uint64_t window = (4u << 20) / (size + 64) + 1, sent = 0;
    double begin = now(), end = begin + seconds;
    rate->messages = 0;
    for (;;) {
      int sending = now() < end;
      while (sending && sent - rate->messages < window &&
             zmq_send(client.socket, buffer, size, ZMQ_DONTWAIT) >= 0)
        sent += 1;
      zmq_pollitem_t item = {client.socket, 0, ZMQ_POLLIN, 0};
      if (!sending && sent == rate->messages) break;
      zmq_poll(&item, 1, 100);
      while (zmq_recv(client.socket, buffer, size, ZMQ_DONTWAIT) >= 0) rate->messages += 1;
    }
    rate->seconds = now() - begin;
    zmq_send(client.socket, NULL, 0, 0);
    pthread_join(thread, NULL);
  }
  peer_close(&client);
  peer_close(&server);
  free(buffer);
  return error;
}

typedef struct {
  peer peer;
  raw_rate *rate;
  double ended;
} subscriber;

static void *subscribe(void *argument) {
  subscriber *self = argument;
  zmq_msg_t message;
  zmq_msg_init(&message);
  while (zmq_msg_recv(&message, self->peer.socket, 0) > 0) self->rate->messages += 1;
  zmq_msg_close(&message);
  self->ended = now();
  return NULL;
}

int raw_publish(size_t size, double seconds, int high_water_mark, raw_rate *rate) {
  peer server;
  subscriber client = {.rate = rate};
  pthread_t thread;
  char *buffer = calloc(1, size), subscription[8];
  rate->messages = 0;
  int error = peer_open(&server, ZMQ_XPUB, NULL, high_water_mark);
  if (error == 0 && set(server.socket, ZMQ_XPUB_NODROP, 1) != 0) error = zmq_errno();
  if (error == 0) error = peer_open(&client.peer, ZMQ_SUB, server.endpoint, high_water_mark);
  if (error == 0 && zmq_recv(server.socket, subscription, sizeof subscription, 0) < 0) error = zmq_errno();
  if (error == 0 && pthread_create(&thread, NULL, subscribe, &client) == 0) {
    double begin = now(), end = begin + seconds;
    while (now() < end && zmq_send(server.socket, buffer, size, 0) >= 0) {}
    zmq_send(server.socket, NULL, 0, 0);
    pthread_join(thread, NULL);
    rate->seconds = client.ended - begin;
  }
  peer_close(&client.peer);
  peer_close(&server);
  free(buffer);
  return error;
}
