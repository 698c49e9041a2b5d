#include "CVideo.h"

#include <libavcodec/avcodec.h>
#include <libavutil/opt.h>
#include <libswscale/swscale.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static _Thread_local char last_error[256] = "";

const char *cv_last_error(void) { return last_error; }

static int fail(const char *what, int code) {
  char text[AV_ERROR_MAX_STRING_SIZE] = "";
  if (code < 0) av_strerror(code, text, sizeof text);
  snprintf(last_error, sizeof last_error, "%s%s%s", what, code < 0 ? ": " : "", text);
  return -1;
}

struct cv_encoder {
  AVCodecContext *codec;
  struct SwsContext *scale;
  AVFrame *frame;
  AVPacket *packet;
};

void cv_encoder_destroy(cv_encoder *encoder) {
  if (!encoder) return;
  avcodec_free_context(&encoder->codec);
  sws_freeContext(encoder->scale);
  av_frame_free(&encoder->frame);
  av_packet_free(&encoder->packet);
  free(encoder);
}

int cv_encoder_create(int width, int height, double frames_per_second, int quality, cv_encoder **out) {
  av_log_set_level(AV_LOG_QUIET);
  if (width < 16 || height < 16 || width > 4096 || height > 4096 || width % 2 || height % 2)
    return fail("width and height must be even and between 16 and 4096", 0);
  const AVCodec *codec = avcodec_find_encoder_by_name("libx264");
  if (!codec) return fail("libavcodec has no libx264 encoder", 0);
  cv_encoder *encoder = calloc(1, sizeof *encoder);
  if (!encoder) return fail("out of memory", 0);
  encoder->codec = avcodec_alloc_context3(codec);
  encoder->frame = av_frame_alloc();
  encoder->packet = av_packet_alloc();
  encoder->scale = sws_getContext(width, height, AV_PIX_FMT_RGB24, width, height, AV_PIX_FMT_YUV420P,
                                  SWS_BILINEAR | SWS_ACCURATE_RND, NULL, NULL, NULL);
  if (!encoder->codec || !encoder->frame || !encoder->packet || !encoder->scale) {
    cv_encoder_destroy(encoder);
    return fail("out of memory", 0);
  }
  AVCodecContext *context = encoder->codec;
  context->width = width;
  context->height = height;
  context->pix_fmt = AV_PIX_FMT_YUV420P;
  context->time_base = (AVRational){1, 1000};
  if (frames_per_second > 0) context->time_base = av_d2q(1.0 / frames_per_second, 1000000);
  context->gop_size = 64;
  context->max_b_frames = 0;
  // One robot has one camera and few cores: frames are encoded where they are handed in.
  context->thread_count = 1;
  char rate[16];
  snprintf(rate, sizeof rate, "%d", quality);
  av_opt_set(context->priv_data, "preset", "superfast", 0);
  av_opt_set(context->priv_data, "crf", rate, 0);
  int code = avcodec_open2(context, codec, NULL);
  if (code < 0) {
    cv_encoder_destroy(encoder);
    return fail("cannot open the encoder", code);
  }
  encoder->frame->format = context->pix_fmt;
  encoder->frame->width = width;
  encoder->frame->height = height;
  code = av_frame_get_buffer(encoder->frame, 0);
  if (code < 0) {
    cv_encoder_destroy(encoder);
    return fail("cannot allocate a frame", code);
  }
  *out = encoder;
  return 0;
}

static int drain_packets(cv_encoder *encoder, cv_sink sink, void *context) {
  for (;;) {
    int code = avcodec_receive_packet(encoder->codec, encoder->packet);
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return 0;
    if (code < 0) return fail("encoding failed", code);
    int stop = sink(context, encoder->packet->data, (size_t)encoder->packet->size);
    av_packet_unref(encoder->packet);
    if (stop) return fail("the receiver of encoded bytes stopped", 0);
  }
}

int cv_encoder_add(cv_encoder *encoder, const uint8_t *rgb, cv_sink sink, void *context) {
  int code = av_frame_make_writable(encoder->frame);
  if (code < 0) return fail("cannot write the frame", code);
  const uint8_t *planes[1] = {rgb};
  int strides[1] = {encoder->codec->width * 3};
  sws_scale(encoder->scale, planes, strides, 0, encoder->codec->height, encoder->frame->data, encoder->frame->linesize);
  encoder->frame->pts = encoder->codec->frame_number;
  code = avcodec_send_frame(encoder->codec, encoder->frame);
  if (code < 0) return fail("encoding failed", code);
  return drain_packets(encoder, sink, context);
}

int cv_encoder_finish(cv_encoder *encoder, cv_sink sink, void *context) {
  int code = avcodec_send_frame(encoder->codec, NULL);
  if (code < 0 && code != AVERROR_EOF) return fail("encoding failed", code);
  return drain_packets(encoder, sink, context);
}

struct cv_decoder {
  AVCodecContext *codec;
  AVCodecParserContext *parser;
  struct SwsContext *scale;
  AVFrame *frame;
  AVPacket *packet;
  uint8_t *rgb;
  int width, height;
  // Packets that may still be decoded: one holds one picture, or none.
  int64_t packets;
};

void cv_decoder_destroy(cv_decoder *decoder) {
  if (!decoder) return;
  if (decoder->parser) av_parser_close(decoder->parser);
  avcodec_free_context(&decoder->codec);
  sws_freeContext(decoder->scale);
  av_frame_free(&decoder->frame);
  av_packet_free(&decoder->packet);
  free(decoder->rgb);
  free(decoder);
}

// Packets without a picture that a stream may have: parameter sets at its end, say.
enum { spare_packets = 16 };

int cv_decoder_create(int width, int height, int frames, cv_decoder **out) {
  av_log_set_level(AV_LOG_QUIET);
  if (width < 16 || height < 16 || width > 4096 || height > 4096)
    return fail("width and height must be between 16 and 4096", 0);
  const AVCodec *codec = avcodec_find_decoder(AV_CODEC_ID_H264);
  if (!codec) return fail("libavcodec has no H.264 decoder", 0);
  cv_decoder *decoder = calloc(1, sizeof *decoder);
  if (!decoder) return fail("out of memory", 0);
  decoder->width = width;
  decoder->height = height;
  decoder->packets = (int64_t)(frames > 0 ? frames : 0) + spare_packets;
  decoder->codec = avcodec_alloc_context3(codec);
  decoder->parser = av_parser_init(AV_CODEC_ID_H264);
  decoder->frame = av_frame_alloc();
  decoder->packet = av_packet_alloc();
  decoder->rgb = malloc((size_t)width * height * 3);
  if (!decoder->codec || !decoder->parser || !decoder->frame || !decoder->packet || !decoder->rgb) {
    cv_decoder_destroy(decoder);
    return fail("out of memory", 0);
  }
  decoder->codec->thread_count = 1;
  // Lines as long as libavcodec pads them, and pairs of macroblocks, for interlaced ones. What claims more gets no memory.
  decoder->codec->max_pixels = (int64_t)((width + 63) / 64 * 64) * ((height + 31) / 32 * 32);
  int code = avcodec_open2(decoder->codec, codec, NULL);
  if (code < 0) {
    cv_decoder_destroy(decoder);
    return fail("cannot open the decoder", code);
  }
  *out = decoder;
  return 0;
}

static int drain_frames(cv_decoder *decoder, cv_sink sink, void *context) {
  for (;;) {
    int code = avcodec_receive_frame(decoder->codec, decoder->frame);
    if (code == AVERROR(EAGAIN) || code == AVERROR_EOF) return 0;
    if (code < 0) return fail("decoding failed", code);
    AVFrame *frame = decoder->frame;
    // A hostile stream may change its size at any frame.
    if (frame->width != decoder->width || frame->height != decoder->height) {
      av_frame_unref(frame);
      return fail("a frame has another size than its trial says", 0);
    }
    decoder->scale = sws_getCachedContext(decoder->scale, frame->width, frame->height, frame->format, frame->width,
                                          frame->height, AV_PIX_FMT_RGB24, SWS_BILINEAR | SWS_ACCURATE_RND, NULL,
                                          NULL, NULL);
    if (!decoder->scale) return fail("frames of this pixel format cannot be converted", 0);
    uint8_t *planes[1] = {decoder->rgb};
    int strides[1] = {decoder->width * 3};
    sws_scale(decoder->scale, (const uint8_t *const *)frame->data, frame->linesize, 0, frame->height, planes, strides);
    av_frame_unref(frame);
    if (sink(context, decoder->rgb, (size_t)decoder->width * decoder->height * 3))
      return fail("the receiver of frames stopped", 0);
  }
}

static int send_packet(cv_decoder *decoder, const uint8_t *bytes, int count, cv_sink sink, void *context) {
  // Decoding costs by the picture, whether or not it comes out again.
  if (decoder->packets-- <= 0) return fail("it holds more pictures than its trial says", 0);
  decoder->packet->data = (uint8_t *)bytes;
  decoder->packet->size = count;
  int code = avcodec_send_packet(decoder->codec, decoder->packet);
  decoder->packet->data = NULL;
  decoder->packet->size = 0;
  if (code < 0) return fail("not an H.264 stream", code);
  return drain_frames(decoder, sink, context);
}

int cv_decoder_feed(cv_decoder *decoder, const uint8_t *bytes, size_t count, cv_sink sink, void *context) {
  if (count > INT32_MAX - AV_INPUT_BUFFER_PADDING_SIZE) return fail("too many bytes at once", 0);
  // The parser reads past the end; it must find zeros there.
  uint8_t *padded = calloc(1, count + AV_INPUT_BUFFER_PADDING_SIZE);
  if (!padded) return fail("out of memory", 0);
  memcpy(padded, bytes, count);
  const uint8_t *next = padded;
  int left = (int)count, result = 0;
  while (left > 0 && result == 0) {
    uint8_t *unit = NULL;
    int size = 0;
    int used = av_parser_parse2(decoder->parser, decoder->codec, &unit, &size, next, left, AV_NOPTS_VALUE,
                                AV_NOPTS_VALUE, 0);
    if (used < 0) {
      result = fail("not an H.264 stream", used);
      break;
    }
    next += used;
    left -= used;
    if (size > 0) result = send_packet(decoder, unit, size, sink, context);
    else if (used == 0) break;
  }
  free(padded);
  return result;
}

int cv_decoder_finish(cv_decoder *decoder, cv_sink sink, void *context) {
  uint8_t *unit = NULL;
  int size = 0;
  av_parser_parse2(decoder->parser, decoder->codec, &unit, &size, NULL, 0, AV_NOPTS_VALUE, AV_NOPTS_VALUE, 0);
  if (size > 0 && send_packet(decoder, unit, size, sink, context)) return -1;
  int code = avcodec_send_packet(decoder->codec, NULL);
  if (code < 0 && code != AVERROR_EOF) return fail("decoding failed", code);
  return drain_frames(decoder, sink, context);
}
