// Filled with inference's tests.
