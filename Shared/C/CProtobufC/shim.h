#include <protobuf-c/protobuf-c.h>
// malloc_usable_size: what a block takes, for budgets of memory.
#include <malloc.h>
