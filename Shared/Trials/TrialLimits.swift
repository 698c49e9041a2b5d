/// What a trial may take. Robots record within it and ingest refuses what is beyond, so that no recorded trial is ever refused
/// for its size.
public enum TrialLimits {
  /// Bytes of all events of one trial, as encoded.
  public static let bytes = 128 << 20
  /// Bytes at which a recorder ends an event and begins the next one: far below what a message of the bus may have, and
  /// little enough that a slow link gets on by an event within seconds.
  public static let eventBytes = 1 << 20
}
