public import Schemas

extension ProtobufEnum {
  /// A state for people: "working"; "unknown" where nobody said it.
  public var word: String { self.rawValue == 0 ? "unknown" : "\(self)" }
}
