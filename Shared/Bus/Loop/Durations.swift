extension Duration {
  /// Rounded down, in Int64's range.
  var wholeNanoseconds: Int64 {
    let (seconds, attoseconds) = self.components
    let (product, overflow) = seconds.multipliedReportingOverflow(by: 1_000_000_000)
    return overflow ? (seconds < 0 ? .min : .max) : product + attoseconds / 1_000_000_000
  }

  /// At least 1, as ZeroMQ wants its intervals.
  var wholeMilliseconds: Int32 { Int32(clamping: max(1, self.wholeNanoseconds / 1_000_000)) }
}
