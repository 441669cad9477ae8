//! Charts of y against x: curves, with bands from the least to the largest run, or single marks.

use std::fmt::Write;

use super::html::escape;
use super::scale::{Scale, Unit};
use super::series::Point;
use super::style::{Style, legend};

/// A chart. Its text is at least 12 pixels high where it is at least [`WIDTH`] pixels wide, as on a phone.
pub(super) struct Chart<'a> {
    pub(super) title: String,
    pub(super) x: Axis,
    pub(super) y: Axis,
    pub(super) lines: Vec<Line<'a>>,
    /// Whether points of a line are connected.
    pub(super) connected: bool,
}

/// What an axis shows.
pub(super) struct Axis {
    pub(super) label: &'static str,
    pub(super) unit: Unit,
    pub(super) logarithmic: bool,
    /// Whether 0 is on it at any rate.
    pub(super) from_zero: bool,
}

/// What belongs to one group.
pub(super) struct Line<'a> {
    pub(super) name: &'a str,
    /// What its style stands for.
    pub(super) label: &'a str,
    /// None of one that is shown as one among many.
    pub(super) style: Option<Style>,
    pub(super) points: Vec<Point>,
}

/// In units of the drawing.
pub(super) const WIDTH: f64 = 350.0;
const HEIGHT: f64 = 236.0;
const TOP: f64 = 10.0;
const RIGHT: f64 = WIDTH - 18.0;
const BOTTOM: f64 = HEIGHT - 40.0;
/// Of a digit, in a font that is wide.
pub(super) const CHARACTER: f64 = 8.1;
/// Marks on a curve.
const MARKS: usize = 7;

impl Axis {
    pub(super) fn linear(label: &'static str, unit: Unit) -> Self {
        Self { label, unit, logarithmic: false, from_zero: false }
    }

    pub(super) fn from_zero(label: &'static str, unit: Unit) -> Self {
        Self { from_zero: true, ..Self::linear(label, unit) }
    }

    pub(super) fn logarithmic(label: &'static str, unit: Unit) -> Self {
        Self { logarithmic: true, ..Self::linear(label, unit) }
    }

    fn scale(&self, values: impl Iterator<Item = f64>) -> Scale {
        match (self.logarithmic, self.from_zero) {
            (true, _) => Scale::logarithmic(values),
            (false, true) => Scale::linear(values.chain([0.0])),
            (false, false) => Scale::linear(values),
        }
    }
}

/// A chart's scales, and where they lie in the drawing.
struct Frame {
    x: Scale,
    y: Scale,
    left: f64,
}

impl Frame {
    fn of(chart: &Chart<'_>) -> Self {
        let points = || chart.lines.iter().flat_map(|line| &line.points);
        let x = chart.x.scale(points().map(|point| point.x));
        let y = chart.y.scale(points().flat_map(|point| [point.low, point.high]));
        let label = |&tick: &f64| y.label(tick, chart.y.unit).chars().count();
        let percent = if chart.y.unit == Unit::Percent { CHARACTER / 2.0 } else { 0.0 };
        let left = 9.0 + percent + CHARACTER * y.ticks.iter().map(label).max().unwrap_or(0) as f64;
        Self { x, y, left }
    }

    fn x(&self, value: f64) -> Option<f64> {
        Some(self.left + self.x.at(value)? * (RIGHT - self.left))
    }

    fn y(&self, value: f64) -> Option<f64> {
        Some(BOTTOM - self.y.at(value)? * (BOTTOM - TOP))
    }
}

impl Chart<'_> {
    /// The chart as a figure of HTML; nothing where there is nothing to show.
    pub(super) fn html(&self) -> String {
        if self.lines.iter().all(|line| line.points.is_empty()) {
            return String::new();
        }
        let frame = Frame::of(self);
        let title = escape(&self.title);
        let (x, y) = (self.x.label, self.y.label);
        let mut out = format!(
            "<figure><figcaption>{title}</figcaption><svg class=\"chart\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" role=\"img\" \
             aria-label=\"{title}: {y} against {x}\"><title>{title}: {y} against {x}</title>"
        );
        self.axes(&frame, &mut out);
        if self.connected {
            self.lines.iter().for_each(|line| self.band(&frame, line, &mut out));
        }
        for (number, line) in self.lines.iter().enumerate() {
            match self.connected {
                true => self.curve(&frame, line, number, &mut out),
                false => self.marks(&frame, line, &mut out),
            }
        }
        out.push_str("</svg>");
        // A line alone needs no name.
        if self.lines.len() > 1 {
            let named = self.lines.iter().filter(|line| !line.points.is_empty());
            out.push_str(&legend(named.filter_map(|line| Some((line.style?, line.label))), self.connected));
        }
        out + "</figure>"
    }

    fn axes(&self, frame: &Frame, out: &mut String) {
        let left = frame.left;
        for &tick in &frame.y.ticks {
            let Some(y) = frame.y(tick) else { continue };
            let (label, at) = (frame.y.label(tick, self.y.unit), left - 6.0);
            let _ = write!(
                out,
                "<path class=\"grid\" d=\"M{left:.1},{y:.1}H{RIGHT}\"/><text class=\"end\" x=\"{at:.1}\" y=\"{:.1}\">{label}</text>",
                y + 4.0
            );
        }
        let (from, to) = (BOTTOM, BOTTOM + 4.0);
        for &tick in &frame.x.ticks {
            let Some(x) = frame.x(tick) else { continue };
            let (label, at) = (frame.x.label(tick, self.x.unit), to + 13.0);
            let _ = write!(
                out,
                "<path class=\"tick\" d=\"M{x:.1},{from}V{to}\"/><text class=\"middle\" x=\"{x:.1}\" y=\"{at}\">{label}</text>"
            );
        }
        let (middle, under) = ((left + RIGHT) / 2.0, HEIGHT - 5.0);
        let _ = write!(
            out,
            "<path class=\"tick\" d=\"M{left:.1},{from}H{RIGHT}\"/><text class=\"middle quiet\" x=\"{middle:.1}\" y=\"{under}\">{}</text>",
            self.x.label
        );
    }

    fn band(&self, frame: &Frame, line: &Line<'_>, out: &mut String) {
        let Some(style) = line.style.filter(|_| line.points.iter().any(|point| point.low < point.high))
        else {
            return;
        };
        let edge = |value: fn(&Point) -> f64| {
            move |point: &Point| Some(format!("{:.1},{:.1}", frame.x(point.x)?, frame.y(value(point))?))
        };
        let above = line.points.iter().filter_map(edge(|point| point.high));
        let below = line.points.iter().rev().filter_map(edge(|point| point.low));
        let path: Vec<String> = above.chain(below).collect();
        let _ = write!(out, "<path {} d=\"M{}Z\"/>", style.band(), path.join("L"));
    }

    fn curve(&self, frame: &Frame, line: &Line<'_>, number: usize, out: &mut String) {
        let Some(style) = line.style else { return };
        let places: Vec<(f64, f64, &Point)> = line
            .points
            .iter()
            .filter_map(|point| Some((frame.x(point.x)?, frame.y(point.mean)?, point)))
            .collect();
        let path: Vec<String> = places.iter().map(|(x, y, _)| format!("{x:.1},{y:.1}")).collect();
        if places.len() > 1 {
            let _ = write!(out, "<path {} d=\"M{}\"/>", style.line(), path.join("L"));
        }
        // Not at the same places on all curves, so that none hides another's.
        let by = places.len().div_ceil(MARKS).max(1);
        for (x, y, point) in places.iter().skip(number % by).step_by(by) {
            out.push_str(&style.mark(*x, *y, &self.tell(line.name, point)));
        }
    }

    fn marks(&self, frame: &Frame, line: &Line<'_>, out: &mut String) {
        for point in &line.points {
            let (Some(x), Some(y)) = (frame.x(point.x), frame.y(point.mean)) else { continue };
            let about = self.tell(line.name, point);
            let Some(style) = line.style else {
                let about = escape(&about);
                let _ = write!(
                    out,
                    "<circle class=\"other\" cx=\"{x:.1}\" cy=\"{y:.1}\" r=\"2.5\"><title>{about}</title></circle>"
                );
                continue;
            };
            if let (Some(low), Some(high), true) =
                (frame.y(point.low), frame.y(point.high), point.low < point.high)
            {
                let _ = write!(
                    out,
                    "<path class=\"bar\" stroke=\"{}\" d=\"M{x:.1},{low:.1}V{high:.1}\"/>",
                    style.colour()
                );
            }
            out.push_str(&style.mark(x, y, &about));
        }
    }

    fn tell(&self, name: &str, point: &Point) -> String {
        let (x, y) = (self.x.unit.tell(point.x), |value| self.y.unit.tell(value));
        let spread = match point.low < point.high {
            true => format!(" ({} to {})", y(point.low), y(point.high)),
            false => String::new(),
        };
        format!("{name}: {} {x}, {} {}{spread}", self.x.label, self.y.label, y(point.mean))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn chart(points: &[(f64, f64)], connected: bool) -> String {
        let points = points.iter().map(|&(x, y)| Point { x, mean: y, low: y - 0.1, high: y + 0.1 }).collect();
        let line = Line { name: "<b>", label: "<b>", style: Style::new(0), points };
        let (x, y) = (Axis::linear("epoch", Unit::Number("")), Axis::linear("loss", Unit::Number("")));
        Chart { title: "<i>".to_owned(), x, y, lines: vec![line], connected }.html()
    }

    #[test]
    fn what_cannot_be_drawn_is_left_out() {
        for connected in [true, false] {
            assert_eq!(chart(&[], connected), "");
            let drawn = chart(&[(0.0, 1.0), (1.0, f64::NAN), (f64::INFINITY, 2.0), (2.0, 3.0)], connected);
            assert!(!drawn.contains("NaN") && !drawn.contains("inf") && !drawn.contains("<b>"), "{drawn}");
            assert_eq!(drawn.matches("class=\"mark\"").count(), 2, "{drawn}");
            assert!(!drawn.contains("<i>") && drawn.contains("&lt;i&gt;"), "{drawn}");
        }
    }

    #[test]
    fn a_long_curve_has_few_marks() {
        let points: Vec<_> = (0..200).map(|x| (f64::from(x), 1.0)).collect();
        assert!((3..=9).contains(&chart(&points, true).matches("class=\"mark\"").count()));
    }
}
