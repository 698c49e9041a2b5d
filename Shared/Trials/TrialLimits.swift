package import Schemas

/// What a trial may take. Robots record within it and ingest refuses what is beyond, so that no recorded trial is ever refused
/// for its size.
public enum TrialLimits {
  /// Bytes of all events of one trial, as encoded.
  public static let bytes = 128 << 20
  /// Bytes at which a recorder ends an event and begins the next one: far below what a message of the bus may have, and
  /// little enough that a slow link gets on by an event within seconds.
  public static let eventBytes = 1 << 20
  /// Bytes of a header, and of an end, as encoded: lists of trials hold both.
  public static let summaryBytes = 64 << 10
  /// Bytes of each text in them, as UTF-8. Labels have their part of ``summaryBytes`` only.
  public static let textBytes = 256

  /// Why a header is too large for any list; nil where it is not.
  package static func excess(of header: TrialHeader) -> String? {
    let texts = [
      ("facility", header.facility), ("task", header.task), ("model_version", header.modelVersion),
      ("hardware_cohort", header.hardwareCohort), ("release_id", header.releaseID),
      ("order_id", header.orderID),
    ]
    return Self.excess(of: "header", header, texts)
  }

  /// Why an end is too large for any list; nil where it is not.
  package static func excess(of end: TrialEnd) -> String? {
    Self.excess(of: "end", end, [("failure_code", end.failureCode)])
  }

  /// A message as encoded, where it can be read by itself: what bytes may unpack to grows with their number, and it may have been
  /// in larger ones.
  static func readable<Message: ProtobufMessage>(_ message: Message) -> [UInt8]? {
    let bytes = message.serializedBytes()
    return (try? Message(serializedBytes: bytes)) == nil ? nil : bytes
  }

  private static func excess(
    of what: String, _ message: some ProtobufMessage, _ texts: [(String, String)]
  ) -> String? {
    if let (name, _) = texts.first(where: { $0.1.utf8.count > Self.textBytes }) {
      return "\(name) may have \(Self.textBytes) bytes at most"
    }
    guard message.serializedSize <= Self.summaryBytes else {
      return "a trial's \(what) may have \(Self.summaryBytes) bytes at most"
    }
    return Self.readable(message) == nil ? "a trial's \(what) has too many fields" : nil
  }
}
