import ServiceKit

/// A table of words for a terminal: a heading, a line, rows; numbers to the right. What a cell has that is no sign is written out.
package struct TextTable: Sendable {
  package var columns: [String]
  package var rows: [[String]] = []

  package init(_ columns: [String]) { self.columns = columns }

  package mutating func add(_ cells: String...) { self.rows.append(cells) }

  package func render() -> String {
    let rows = self.rows.map { $0.map { VisibleText.of($0) } }
    let widths = self.columns.indices.map { column in
      ([self.columns[column]] + rows.map { column < $0.count ? $0[column] : "" }).map(\.count).max() ?? 0
    }
    let numeric = self.columns.indices.map { column in
      !rows.isEmpty
        && rows.allSatisfy { column < $0.count && ($0[column].first?.isNumber ?? true) }
    }
    func line(_ cells: [String]) -> String {
      var text = ""
      for (column, width) in widths.enumerated() {
        let cell = column < cells.count ? cells[column] : ""
        let space = String(repeating: " ", count: width - cell.count)
        text += (numeric[column] ? space + cell : cell + space) + "  "
      }
      while text.last == " " { text.removeLast() }
      return text + "\n"
    }
    return line(self.columns) + line(widths.map { String(repeating: "─", count: $0) })
      + rows.map(line).joined()
  }
}
