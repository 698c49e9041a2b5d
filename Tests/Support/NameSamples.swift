/// Names and what are none, for every place that takes one: all must agree, or one part drops what another took.
public enum NameSamples {
  public static let good = [
    "a", "R1", "7", "_", "-", "r.1", "r..", "robot-1_b.2", String(repeating: "a", count: 64),
  ]

  public static let bad = [
    "", ".", "..", ".r1", "...", "a/b", "../a", "a b", "a\n", "a\0", "a:b", "a*", "röbot", "r１", "é",
    String(repeating: "a", count: 65),
  ]
}
