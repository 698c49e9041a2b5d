#include "CPoller.h"

// ZMTP 3's frames in the bytes of a connection, as libzmq cuts them: a greeting of 64 bytes, then a byte of flags, a length of
// one byte or of eight, and the body. Under CURVE the frames on the wire are commands that hold one frame each.

enum state { greeting = 0, flags, length, body, unknown };

enum {
  greeting_size = 64,
  long_length = 2,
  // What libzmq keeps of a frame besides its bytes: sizeof(zmq_msg_t).
  frame_cost = 64,
  // libzmq reads into buffers of 8 KiB, with room for as many records of frames as may lie in them. Frames of more bytes than a
  // zmq_msg_t holds itself stay where they were read and keep the whole buffer; those that are larger have memory of their own.
  smallest_in_buffer = 33,
  largest_in_buffer = 8 << 10,
  buffer_cost = 18 << 10,
};

// Older versions of ZMTP have other frames, which none of the bus's peers sends: each byte counts as if it was half of an
// empty frame.
static void charge_unknown(size_t count, cpoller_charge *charge) {
  charge->frames += (int64_t)(count + 1) / 2;
  charge->bytes += (int64_t)(count + 1) / 2 * frame_cost;
}

static int is_known(const cpoller_framing *framing, uint8_t byte) {
  switch (framing->seen) {
    case 0: return byte == 0xFF;
    case 9: return (byte & 1) != 0;
    case 10: return byte > 1;  // The version; 0 and 1 are ZMTP 1 and 2.
    default: return 1;
  }
}

cpoller_charge cpoller_walk(cpoller_framing *framing, const void *bytes, size_t count) {
  const uint8_t *next = bytes, *end = next + count;
  cpoller_charge charge = {.bytes = (int64_t)count};
  int keeps_buffer = 0;
  while (next < end) {
    switch (framing->state) {
      case greeting:
        if (!is_known(framing, *next)) {
          framing->state = unknown;
          break;
        }
        next++;
        if (++framing->seen == greeting_size) framing->state = flags;
        break;
      case flags:
        framing->seen = *next++ & long_length ? 8 : 1;
        framing->rest = 0;
        framing->state = length;
        break;
      case length:
        framing->rest = framing->rest << 8 | *next++;
        if (--framing->seen > 0) break;
        charge.frames++;
        charge.bytes += frame_cost;
        keeps_buffer |= framing->rest >= smallest_in_buffer && framing->rest <= largest_in_buffer;
        framing->state = framing->rest > 0 ? body : flags;
        break;
      case body: {
        size_t here = (size_t)(end - next);
        if (framing->rest < here) here = (size_t)framing->rest;
        next += here;
        framing->rest -= here;
        if (framing->rest == 0) framing->state = flags;
        break;
      }
      default:
        charge_unknown((size_t)(end - next), &charge);
        next = end;
    }
  }
  if (keeps_buffer && count < buffer_cost) charge.bytes += buffer_cost - (int64_t)count;
  return charge;
}
