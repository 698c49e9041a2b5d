// Filled with the monitor's tests.
