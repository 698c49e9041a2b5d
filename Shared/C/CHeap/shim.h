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

// From now on blocks of so many bytes have pages of their own, which go back at once when they are freed, and so does the end of
// an arena that is larger. By itself malloc raises both bounds to 32 and 64 MiB once a large block was freed, and nothing but
// the next free in the same arena, not even heap_trim, gives the end of an arena back.
static inline void heap_bound(int bytes) {
  mallopt(M_MMAP_THRESHOLD, bytes);
  mallopt(M_TRIM_THRESHOLD, bytes);
}
