//! Tables of text: rows of cells, the first of them the header.

/// The rows as lines for a terminal: the first column to the left, the others to the right.
pub(crate) fn aligned(rows: &[Vec<String>]) -> Vec<String> {
    let columns = rows.iter().map(Vec::len).max().unwrap_or(0);
    // In characters, of which ± is one and two bytes.
    let length = |row: &Vec<String>, column: usize| row.get(column).map_or(0, |cell| cell.chars().count());
    let widths: Vec<usize> =
        (0..columns).map(|column| rows.iter().map(|row| length(row, column)).max().unwrap_or(0)).collect();
    let line = |row: &Vec<String>| {
        let cells = row.iter().zip(&widths).enumerate().map(|(column, (cell, &width))| {
            if column == 0 { format!("{cell:<width$}") } else { format!("{cell:>width$}") }
        });
        cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
    };
    rows.iter().map(line).collect()
}

/// The rows as a Markdown table. No cell may have a `|`.
pub(crate) fn markdown(rows: &[Vec<String>]) -> String {
    let line = |row: &Vec<String>| format!("| {} |\n", row.join(" | "));
    let Some((header, rest)) = rows.split_first() else { return String::new() };
    let rule = format!("|{}\n", "---|".repeat(header.len()));
    line(header) + &rule + &rest.iter().map(line).collect::<String>()
}

/// The rows as comma-separated values (RFC 4180, with plain new lines).
pub(crate) fn csv(rows: &[Vec<String>]) -> String {
    let quoted = |cell: &String| match cell.contains([',', '"', '\n', '\r']) {
        true => format!("\"{}\"", cell.replace('"', "\"\"")),
        false => cell.clone(),
    };
    rows.iter().map(|row| row.iter().map(quoted).collect::<Vec<_>>().join(",") + "\n").collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows() -> Vec<Vec<String>> {
        let rows = [["method", "90/80", ""], ["set", "88.1 ± 0.2", "-"], ["top-kast, \"B\"", "9", "x"]];
        rows.map(|row| row.map(str::to_owned).to_vec()).to_vec()
    }

    #[test]
    fn lines_are_aligned_by_characters() {
        assert_eq!(
            aligned(&rows()),
            ["method              90/80", "set            88.1 ± 0.2  -", "top-kast, \"B\"           9  x"]
        );
        assert!(aligned(&[]).is_empty());
    }

    #[test]
    fn markdown_has_a_rule_under_the_header() {
        let text =
            "| method | 90/80 |  |\n|---|---|---|\n| set | 88.1 ± 0.2 | - |\n| top-kast, \"B\" | 9 | x |\n";
        assert_eq!(markdown(&rows()), text);
    }

    #[test]
    fn commas_and_quotes_are_quoted() {
        assert_eq!(csv(&rows()), "method,90/80,\nset,88.1 ± 0.2,-\n\"top-kast, \"\"B\"\"\",9,x\n");
    }
}
