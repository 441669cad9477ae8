//! Messages that others word, within ours.

use std::fmt::Display;

/// Characters of such a message at most: some repeat all of what they could not read.
const LONGEST: usize = 300;

/// What `cause` says, in one line of bounded length: it may quote a stranger's file, line ends and terminal controls included.
pub(crate) fn one_line(cause: &impl Display) -> String {
    let text = cause.to_string();
    let words =
        text.split(|char: char| char.is_whitespace() || char.is_control()).filter(|word| !word.is_empty());
    let mut line = words.collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(LONGEST) {
        line.truncate(end);
        line.push('…');
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_and_controls_are_joined_and_long_messages_cut() {
        assert_eq!(one_line(&"a\nb\r\n \u{1b}[2Jc\u{2028}d"), "a b [2Jc d");
        assert_eq!(one_line(&"é".repeat(LONGEST)), "é".repeat(LONGEST));
        assert_eq!(one_line(&"é".repeat(LONGEST + 1)), "é".repeat(LONGEST) + "…");
    }
}
