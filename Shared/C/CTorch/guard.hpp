// The line that no exception crosses.
#pragma once
#include <cstdint>
#include <exception>
#include <string>

namespace ct {
/// Text of the calling thread's last failure.
std::string &last_error();

/// Runs `body`; an exception becomes -1 and its text.
template <class Body>
int32_t guarded(Body &&body) noexcept {
  try {
    body();
    return 0;
  } catch (const std::exception &error) {
    // LibTorch's own errors append a C++ stack trace after the first line.
    std::string text = error.what();
    last_error() = text.substr(0, text.find('\n'));
  } catch (...) {
    last_error() = "an unknown C++ exception";
  }
  return -1;
}
}  // namespace ct
