// glibc's words on its heap, which Swift's Glibc leaves out.
#include <malloc.h>
#include <stddef.h>

// Bytes that malloc has given out and not got back.
static inline size_t heap_used(void) {
  struct mallinfo2 info = mallinfo2();
  return info.uordblks + info.hblkhd;
}

// Gives whole pages of what it got back to the system.
static inline void heap_trim(void) { malloc_trim(0); }
