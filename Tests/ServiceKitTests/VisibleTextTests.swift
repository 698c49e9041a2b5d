import Testing

@testable import ServiceKit

@Suite struct VisibleTextTests {
  @Test(arguments: [
    ("plain – ünicode 机器", "plain – ünicode 机器"), ("a\r\nforged", "a\\u{D}\\nforged"),
    ("\u{1B}[2J", "\\u{1B}[2J"),
    ("\u{9B}2J", "\\u{9B}2J"), ("a\u{2028}b\u{202E}c", "a\\u{2028}b\\u{202E}c"), ("👩‍🔬", "👩‍🔬"),
    ("a\u{61C}b", "a\\u{61C}b"),
  ])
  func `what is no sign is written out`(text: String, shown: String) {
    #expect(VisibleText.of(text) == shown)
  }

  @Test func `lines stay where they are meant`() {
    #expect(VisibleText.of("a\nb\rc", lines: true) == "a\nb\\u{D}c")
  }

  @Test(arguments: [
    ("word", "word"), ("", "\"\""), ("two words", "\"two words\""),
    ("a\r\nforged=1", "\"a\\u{D}\\nforged=1\""),
    ("\u{1B}[2J", "\"\\u{1B}[2J\""), ("say \"x\"", "\"say \\\"x\\\"\""),
    ("say \"\u{301}", "\"say \\\"\u{301}\""),
  ])
  func `a value of a log stays one value on one line`(value: String, shown: String) {
    #expect(LineLogHandler.quoted(value) == shown)
  }
}
