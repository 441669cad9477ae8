//! How curves and bars are told apart: by colour, and without it by dashes, marks and hatching.

use std::fmt::Write;

use super::html::escape;

/// One of as many looks of a curve as can be told apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Style(usize);

/// Colours `--c0` to `--c5` of the style sheet.
const COLOURS: usize = 6;
const DASHES: [&str; 4] = ["none", "7 3", "2 2.5", "9 3 2 3"];

impl Style {
    /// How many there are: each shape of mark filled and hollow.
    pub(super) const COUNT: usize = 12;

    /// The one with this number; none beyond the last.
    pub(super) fn new(number: usize) -> Option<Self> {
        (number < Self::COUNT).then_some(Self(number))
    }

    /// The attributes of a line.
    pub(super) fn line(self) -> String {
        let dashes = DASHES[(self.0 + self.0 / COLOURS) % DASHES.len()];
        format!("class=\"line\" stroke=\"{}\" stroke-dasharray=\"{dashes}\"", self.colour())
    }

    /// The attributes of a band around it.
    pub(super) fn band(self) -> String {
        format!("class=\"band\" fill=\"{}\"", self.colour())
    }

    /// A mark at a place, with a text that shows when it is pointed at.
    pub(super) fn mark(self, x: f64, y: f64, about: &str) -> String {
        let shape = match self.0 % COLOURS {
            0 => "m-3.6,0a3.6,3.6 0 1,0 7.2,0a3.6,3.6 0 1,0 -7.2,0z",
            1 => "m-3.3,-3.3h6.6v6.6h-6.6z",
            2 => "m0,-4.4l4.2,7.6h-8.4z",
            3 => "m0,-4.8l4.8,4.8l-4.8,4.8l-4.8,-4.8z",
            4 => "m0,4.4l4.2,-7.6h-8.4z",
            _ => "m-1.5,-4.5h3v3h3v3h-3v3h-3v-3h-3v-3h3z",
        };
        let colour = self.colour();
        let fill = if self.0 < COLOURS { colour.as_str() } else { "var(--card)" };
        let about = escape(about);
        format!(
            "<path class=\"mark\" d=\"M{x:.1},{y:.1}{shape}\" fill=\"{fill}\" stroke=\"{colour}\"><title>{about}</title></path>"
        )
    }

    /// Its colour.
    pub(super) fn colour(self) -> String {
        format!("var(--c{})", self.0 % COLOURS)
    }
}

/// A legend of curves (`with_line`) or of marks: each style once.
pub(super) fn legend<'a>(entries: impl Iterator<Item = (Style, &'a str)>, with_line: bool) -> String {
    let (mut out, mut seen) = ("<ul class=\"legend\">".to_owned(), Vec::new());
    for (style, name) in entries {
        if seen.contains(&style) {
            continue;
        }
        seen.push(style);
        let line = match with_line {
            true => format!("<path d=\"M1,6H35\" {}/>", style.line()),
            false => String::new(),
        };
        let (mark, name) = (style.mark(18.0, 6.0, name), escape(name));
        let _ = write!(
            out,
            "<li><svg viewBox=\"0 0 36 12\" width=\"36\" height=\"12\" aria-hidden=\"true\">{line}{mark}</svg>{name}</li>"
        );
    }
    out + "</ul>"
}

/// The attributes that fill the bar of a part, the 0th, 1st, …; [`hatch`] goes over it.
pub(super) fn fill(part: usize) -> String {
    format!("fill=\"var(--c{})\"", part % COLOURS)
}

/// What goes over it; none for some parts.
pub(super) fn hatch(part: usize) -> Option<String> {
    let number = part % HATCHES.len();
    (number > 0).then(|| format!("fill=\"url(#hatch{number})\""))
}

const HATCHES: [&str; 4] = ["", "M0,6L6,0", "M0,3H6", "M0,0L6,6"];

/// Defines the hatches, once in a page.
pub(super) fn definitions() -> String {
    let mut out =
        "<svg class=\"definitions\" width=\"0\" height=\"0\" aria-hidden=\"true\"><defs>".to_owned();
    for (number, path) in HATCHES.iter().enumerate().skip(1) {
        let _ = write!(
            out,
            "<pattern id=\"hatch{number}\" width=\"6\" height=\"6\" patternUnits=\"userSpaceOnUse\"><path class=\"hatch\" d=\"{path}\"/></pattern>"
        );
    }
    out + "</defs></svg>"
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn no_two_styles_are_alike_without_colour() {
        let all: Vec<Style> = (0..20).filter_map(Style::new).collect();
        assert_eq!(all.len(), Style::COUNT);
        let plain = |style: &Style| style.mark(0.0, 0.0, "").replace(&style.colour(), "ink");
        let marks: HashSet<String> = all.iter().map(plain).collect();
        assert_eq!(marks.len(), Style::COUNT);
        // Where the colour comes again, the dashes differ.
        assert!((0..COLOURS).all(|number| all[number].line() != all[number + COLOURS].line()));
    }
}
