//! Text into HTML.

use std::fmt::Write;

/// `text` with nothing in it that means something to HTML.
pub(super) fn escape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for character in text.chars() {
        match character {
            '&' => out.push_str("&amp;"),
            '<' => out.push_str("&lt;"),
            '>' => out.push_str("&gt;"),
            '"' => out.push_str("&quot;"),
            '\'' => out.push_str("&#39;"),
            control if control.is_control() => out.push(' '),
            other => out.push(other),
        }
    }
    out
}

/// The first `most` characters of `text`, the last one `…` where there are more.
pub(super) fn shortened(text: &str, most: usize) -> String {
    if text.chars().count() <= most {
        return text.to_owned();
    }
    text.chars().take(most.saturating_sub(1)).chain(['…']).collect()
}

/// A table that scrolls in its own box; all texts are escaped here. The first cell of a row is its heading.
pub(super) fn table(title: &str, header: &[String], rows: &[Vec<String>]) -> String {
    let mut out =
        format!("<section><h2>{}</h2><div class=\"box\" tabindex=\"0\"><table><thead><tr>", escape(title));
    for name in header {
        let _ = write!(out, "<th scope=\"col\">{}</th>", escape(name));
    }
    out.push_str("</tr></thead><tbody>");
    for row in rows {
        out.push_str("<tr>");
        for (number, cell) in row.iter().enumerate() {
            let cell = escape(cell);
            let _ = match number {
                0 => write!(out, "<th scope=\"row\">{cell}</th>"),
                _ => write!(out, "<td>{cell}</td>"),
            };
        }
        out.push_str("</tr>");
    }
    out + "</tbody></table></div></section>"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hostile_text_is_text() {
        let hostile = "<script>alert(\"1\")</script>&'\u{0}";
        let safe = escape(hostile);
        assert_eq!(safe, "&lt;script&gt;alert(&quot;1&quot;)&lt;/script&gt;&amp;&#39; ");
        let table = table(hostile, &[hostile.to_owned()], &[vec![hostile.to_owned(), hostile.to_owned()]]);
        assert!(!table.contains("<script") && table.matches(&safe).count() == 4, "{table}");
    }

    #[test]
    fn long_text_is_cut() {
        assert_eq!((shortened("äöü", 3), shortened("äöüß", 3)), ("äöü".to_owned(), "äö…".to_owned()));
    }
}
