/// How many of a number of places one of many callers may have, so that none takes all.
public enum FairShare {
  /// The more places are taken, the fewer may one caller have: of three quarters of them as many as are left for all others. The
  /// last quarter is for callers that have none.
  /// - Parameters:
  ///   - own: places that the caller has.
  ///   - places: how many there are.
  ///   - taken: by all, the caller included.
  /// - Returns: whether it may have one more.
  public static func has(own: Int, of places: Int, taken: Int) -> Bool {
    own == 0 ? taken < places : own < places - places / 4 - taken
  }
}
