//! Charts of horizontal bars made of parts, with what they belong to written above them.

use std::fmt::Write;

use super::chart::{CHARACTER, WIDTH};
use super::html::{escape, shortened};
use super::scale::{Scale, Unit};
use super::style::{fill, hatch};

/// A chart.
pub(super) struct Bars {
    pub(super) title: String,
    pub(super) unit: Unit,
    /// What the parts are, by number.
    pub(super) parts: Vec<&'static str>,
    pub(super) rows: Vec<Row>,
}

/// Some bars that belong together.
pub(super) struct Row {
    pub(super) name: String,
    /// What is said beside the name.
    pub(super) note: String,
    /// Each of a part's number and length, one after the other.
    pub(super) bars: Vec<Vec<(usize, f64)>>,
}

/// Rows in one chart; whoever has more layers finds them elsewhere.
const ROWS: usize = 48;
const LEFT: f64 = 4.0;
const RIGHT: f64 = WIDTH - 22.0;
const NAME: f64 = 16.0;
const BAR: f64 = 11.0;
const GAP: f64 = 9.0;
const AXIS: f64 = 24.0;

impl Bars {
    /// The chart as a figure of HTML; nothing where no bar has a length.
    pub(super) fn html(&self) -> String {
        let rows = &self.rows[..self.rows.len().min(ROWS)];
        let length = |bar: &Vec<(usize, f64)>| -> f64 { bar.iter().map(|(_, length)| length).sum() };
        let lengths = || rows.iter().flat_map(|row| &row.bars).map(length);
        if !lengths().any(|length| length.is_finite() && length > 0.0) {
            return String::new();
        }
        let scale = Scale::linear(lengths().chain([0.0]));
        let height = |row: &Row| NAME + BAR * row.bars.len() as f64 + GAP;
        let (bottom, title) = (rows.iter().map(height).sum::<f64>(), escape(&self.title));
        let mut out = format!(
            "<figure><figcaption>{title}</figcaption><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {}\" role=\"img\" \
             aria-label=\"{title}\"><title>{title}</title>",
            bottom + AXIS
        );
        self.axis(&scale, bottom, &mut out);
        let mut top = 0.0;
        for row in rows {
            self.row(row, &scale, top, &mut out);
            top += height(row);
        }
        out.push_str("</svg>");
        self.legend(&mut out);
        if rows.len() < self.rows.len() {
            let _ = write!(out, "<p>The first {ROWS} of {} are shown.</p>", self.rows.len());
        }
        out + "</figure>"
    }

    fn axis(&self, scale: &Scale, bottom: f64, out: &mut String) {
        for &tick in &scale.ticks {
            let Some(x) = place(scale, tick) else { continue };
            let (label, under) = (scale.label(tick, self.unit), bottom + 14.0);
            let unit = match self.unit {
                Unit::Number(unit) if Some(&tick) == scale.ticks.last() => unit,
                _ => "",
            };
            let label = format!("{label}{unit}");
            let beyond = label.chars().count() as f64 * CHARACTER / 2.0;
            let (class, at) = match (x - beyond < 0.0, x + beyond > WIDTH) {
                (true, _) => ("start", 0.0),
                (_, true) => ("end", WIDTH),
                _ => ("middle", x),
            };
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{x:.1},0V{bottom:.1}\"/><text class=\"{class} over\" x=\"{at:.1}\" y=\"{under:.1}\">{label}</text>"
            );
        }
    }

    fn row(&self, row: &Row, scale: &Scale, top: f64, out: &mut String) {
        let room = (WIDTH / CHARACTER) as usize - row.note.chars().count().min(30) - 2;
        let (name, note) = (escape(&shortened(&row.name, room)), escape(&row.note));
        let baseline = top + NAME - 4.0;
        let _ = write!(
            out,
            "<text class=\"over\" x=\"{LEFT}\" y=\"{baseline:.1}\">{name}<title>{}</title></text>\
             <text class=\"end quiet over\" x=\"{WIDTH}\" y=\"{baseline:.1}\">{note}</text>",
            escape(&row.name)
        );
        for (number, bar) in row.bars.iter().enumerate() {
            let y = top + NAME + BAR * number as f64;
            let mut from = 0.0;
            for &(part, length) in bar.iter().filter(|(_, length)| length.is_finite() && *length > 0.0) {
                let (Some(start), Some(end)) = (place(scale, from), place(scale, from + length)) else {
                    continue;
                };
                from += length;
                let about = escape(&format!("{}: {} {}", row.name, self.parts[part], self.unit.tell(length)));
                let place = format!(
                    "x=\"{start:.1}\" y=\"{y:.1}\" width=\"{:.1}\" height=\"{:.1}\"",
                    (end - start).max(0.6),
                    BAR - 1.0
                );
                let _ =
                    write!(out, "<rect class=\"part\" {place} {}><title>{about}</title></rect>", fill(part));
                if let Some(hatch) = hatch(part) {
                    let _ = write!(out, "<rect class=\"over-part\" {place} {hatch}/>");
                }
            }
        }
    }

    fn legend(&self, out: &mut String) {
        out.push_str("<ul class=\"legend\">");
        for (part, name) in self.parts.iter().enumerate() {
            let place = "width=\"22\" height=\"11\"";
            let over = hatch(part).map_or(String::new(), |hatch| format!("<rect {place} {hatch}/>"));
            let _ = write!(
                out,
                "<li><svg viewBox=\"0 0 22 11\" {place} aria-hidden=\"true\"><rect {place} {}/>{over}</svg>{}</li>",
                fill(part),
                escape(name)
            );
        }
        out.push_str("</ul>");
    }
}

fn place(scale: &Scale, value: f64) -> Option<f64> {
    Some(LEFT + scale.at(value)? * (RIGHT - LEFT))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn bars(rows: Vec<Row>) -> String {
        Bars { title: "t".to_owned(), unit: Unit::Percent, parts: vec!["a", "b"], rows }.html()
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        let row = |bars: &[&[(usize, f64)]]| Row {
            name: "<b>".repeat(40),
            note: "<i>".to_owned(),
            bars: bars.iter().map(|bar| bar.to_vec()).collect(),
        };
        assert_eq!(bars(vec![]), "");
        assert_eq!(bars(vec![row(&[&[(0, 0.0), (1, f64::NAN)]])]), "");
        let drawn =
            bars(vec![row(&[&[(0, 0.5), (1, f64::INFINITY), (1, 0.2)], &[(0, 0.9)]]), row(&[&[(0, 0.1)]])]);
        assert!(
            !drawn.contains("NaN")
                && !drawn.contains("inf")
                && !drawn.contains("<b>")
                && !drawn.contains("<i>")
        );
        assert_eq!(drawn.matches("class=\"part\"").count(), 4, "{drawn}");
        let many = bars((0..60).map(|_| row(&[&[(0, 0.1)]])).collect());
        assert!(many.contains("The first 48 of 60"), "{many}");
    }
}
