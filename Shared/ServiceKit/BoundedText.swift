extension String {
  /// Its beginning, of so many Unicode scalars at most, each of which takes 1 to 4 bytes. A single `Character` may have any number
  /// of bytes: what others say is bounded by this.
  public func firstScalars(_ count: Int) -> String { String(self.unicodeScalars.prefix(count)) }
}
