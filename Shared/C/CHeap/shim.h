// glibc's words on its heap, which Swift's Glibc leaves out.
#include <malloc.h>
#include <stddef.h>

// Bytes that were freed and that malloc keeps.
static inline size_t heap_unused(void) { return mallinfo2().fordblks; }

// Gives whole pages of them back to the system.
static inline void heap_trim(void) { malloc_trim(0); }
