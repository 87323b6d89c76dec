//! Charts of a report as SVG. Colours and fonts come from the style sheet of the page.

use std::fmt::Write;

use super::data::{Course, Point};
use super::number::{count, percent, tick_percent};
use super::period::Step;

/// The size of a chart in its own units; the page scales it.
const WIDTH: f64 = 960.0;
const HEIGHT: f64 = 220.0;
const LEFT: f64 = 64.0;
const RIGHT: f64 = 8.0;
const TOP: f64 = 10.0;
const BOTTOM: f64 = 26.0;
/// The lines across a chart, without the lowest one.
const LINES: u32 = 4;
/// The greatest number of labels below a chart.
const LABELS: usize = 12;
/// With more steps, dots are shown only below the pointer.
const MOST_DOTS: usize = 60;

/// Draws the events of each step as columns.
pub(super) fn events(course: &Course) -> String {
    let most = course.points.iter().map(|point| point.events).max().unwrap_or_default();
    let scale = Scale::new(number(most), course.points.len());
    let mut svg = scale.begin("Events", |value| count(rounded(value)));
    let width = (scale.step() * 0.8).max(0.5);
    for (index, point) in course.points.iter().enumerate() {
        let (x, y) = (scale.x(index) - width / 2.0, scale.y(number(point.events)));
        let height = HEIGHT - BOTTOM - y;
        let text =
            format!("{}: {} events, {} sent", point.at, count(point.events), count(point.sent));
        let _ = write!(
            svg,
            r#"<rect class="column" x="{x:.1}" y="{y:.1}" width="{width:.1}" height="{height:.1}"><title>{text}</title></rect>"#
        );
    }
    scale.end(svg, course)
}

/// Draws the bounce rate of each step as a line. Steps without sent messages interrupt it.
pub(super) fn bounce_rate(course: &Course) -> String {
    let most = course.points.iter().filter_map(|point| point.bounce_rate).fold(0.0, f64::max);
    let scale = Scale::new(most.max(0.001), course.points.len());
    let mut svg = scale.begin("Bounce rate", tick_percent);
    for piece in pieces(&course.points) {
        let points: Vec<_> = piece
            .iter()
            .map(|&(index, rate)| format!("{:.1},{:.1}", scale.x(index), scale.y(rate)))
            .collect();
        let _ = write!(svg, r#"<polyline class="line" points="{}"/>"#, points.join(" "));
    }
    for (index, point) in course.points.iter().enumerate() {
        let Some(rate) = point.bounce_rate else { continue };
        let (x, y) = (scale.x(index), scale.y(rate));
        let text = format!(
            "{}: {} ({} of {})",
            point.at,
            percent(Some(rate)),
            count(point.bounced),
            count(point.sent)
        );
        let _ = write!(
            svg,
            r#"<circle class="dot" cx="{x:.1}" cy="{y:.1}" r="3"><title>{text}</title></circle>"#
        );
    }
    scale.end(svg, course)
}

/// Returns the pieces of the line, as indices and rates.
fn pieces(points: &[Point]) -> Vec<Vec<(usize, f64)>> {
    let rates: Vec<_> = points.iter().map(|point| point.bounce_rate).enumerate().collect();
    let pieces = rates.split(|(_, rate)| rate.is_none());
    let known = |piece: &[(usize, Option<f64>)]| {
        piece.iter().filter_map(|&(index, rate)| Some((index, rate?))).collect::<Vec<_>>()
    };
    pieces.map(known).filter(|piece| !piece.is_empty()).collect()
}

/// Where values and steps are in a chart.
struct Scale {
    top: f64,
    steps: f64,
}

impl Scale {
    fn new(greatest: f64, steps: usize) -> Self {
        Self { top: round_up(greatest), steps: number(steps.max(1) as u64) }
    }

    fn step(&self) -> f64 {
        (WIDTH - LEFT - RIGHT) / self.steps
    }

    /// Returns the middle of a step.
    fn x(&self, index: usize) -> f64 {
        LEFT + self.step() * (number(index as u64) + 0.5)
    }

    fn y(&self, value: f64) -> f64 {
        let height = HEIGHT - TOP - BOTTOM;
        TOP + height * (1.0 - (value / self.top).clamp(0.0, 1.0))
    }

    /// Returns the beginning of the chart, with its lines and their labels.
    fn begin(&self, name: &str, label: impl Fn(f64) -> String) -> String {
        let dense = if self.steps > number(MOST_DOTS as u64) { " dense" } else { "" };
        let mut svg = format!(
            r#"<svg class="chart{dense}" viewBox="0 0 {WIDTH} {HEIGHT}" role="img" aria-label="{name}">"#
        );
        for line in 0..=LINES {
            let value = self.top * f64::from(line) / f64::from(LINES);
            let (y, right) = (self.y(value), WIDTH - RIGHT);
            let _ = write!(
                svg,
                r#"<line class="grid" x1="{LEFT}" y1="{y:.1}" x2="{right}" y2="{y:.1}"/><text class="tick" x="{:.1}" y="{:.1}" text-anchor="end">{}</text>"#,
                LEFT - 8.0,
                y + 4.0,
                label(value)
            );
        }
        svg
    }

    /// Adds the labels below the chart.
    fn end(&self, mut svg: String, course: &Course) -> String {
        let ticks = ticks(course);
        let every = ticks.len().div_ceil(LABELS).max(1);
        for (index, text) in ticks.into_iter().step_by(every) {
            let (x, y) = (self.x(index), HEIGHT - 8.0);
            let _ = write!(
                svg,
                r#"<text class="tick" x="{x:.1}" y="{y:.1}" text-anchor="middle">{text}</text>"#
            );
        }
        svg + "</svg>"
    }
}

/// Returns the steps that can have a label, and the label: the hours of one day, or the beginnings of days.
fn ticks(course: &Course) -> Vec<(usize, &str)> {
    const DAY: std::ops::Range<usize> = 5..10;
    const HOUR: std::ops::Range<usize> = 11..16;
    let times = || course.points.iter().map(|point| point.at.as_str()).enumerate();
    let days: Vec<_> = times()
        .filter(|(_, at)| course.step == Step::Day || at.get(HOUR) == Some("00:00"))
        .filter_map(|(index, at)| Some((index, at.get(DAY)?)))
        .collect();
    if days.len() > 1 {
        return days;
    }
    times().filter_map(|(index, at)| Some((index, at.get(HOUR)?))).collect()
}

/// Returns the next number above whose quarters are short.
fn round_up(value: f64) -> f64 {
    if value <= 0.0 {
        return 1.0;
    }
    let power = 10f64.powf(value.log10().floor());
    let steps = [1.0, 1.2, 1.6, 2.0, 2.4, 3.2, 4.0, 5.0, 6.0, 8.0, 10.0];
    steps.iter().map(|step| step * power).find(|top| *top >= value * 0.999_999).unwrap_or(value)
}

#[expect(clippy::cast_precision_loss, reason = "a chart needs no more precision")]
fn number(number: u64) -> f64 {
    number as f64
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "saturates")]
fn rounded(number: f64) -> u64 {
    number.round() as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    fn course(rates: &[Option<f64>]) -> Course {
        let points = rates.iter().enumerate().map(|(hour, &bounce_rate)| Point {
            at: format!("2026-11-21T{hour:02}:00:00+00:00"),
            events: 1000 * hour as u64,
            sent: 100,
            bounced: 1,
            bounce_rate,
        });
        Course { step: Step::Hour, points: points.collect() }
    }

    #[test]
    fn the_line_is_interrupted_where_nothing_was_sent() {
        let course = course(&[None, Some(0.1), Some(0.2), None, Some(0.3), None]);
        assert_eq!(pieces(&course.points), [vec![(1, 0.1), (2, 0.2)], vec![(4, 0.3)]]);
        assert_eq!(bounce_rate(&course).matches("<polyline").count(), 2);
        assert_eq!(bounce_rate(&course).matches("<circle").count(), 3);
    }

    #[test]
    fn columns_are_as_high_as_their_events() {
        let svg = events(&course(&[None; 3]));
        let heights: Vec<&str> =
            svg.split(r#" height=""#).skip(1).filter_map(|rest| rest.split('"').next()).collect();
        assert_eq!(heights, ["0.0", "92.0", "184.0"]);
        assert!(svg.contains(">2,000</text>") && svg.contains(">01:00</text>"), "{svg}");
    }

    #[test]
    fn labels_are_hours_of_one_day_or_days() {
        let mut course = course(&[None; 24]);
        assert_eq!((ticks(&course).len(), ticks(&course)[5]), (24, (5, "05:00")));
        let last = course.points.remove(23);
        course.points.push(Point { at: "2026-11-22T00:00:00+00:00".into(), ..last });
        assert_eq!(ticks(&course), [(0, "11-21"), (23, "11-22")]);
    }

    #[test]
    fn scales_end_at_short_numbers() {
        let tops = [0.0, 0.0307, 1.0, 1.01, 900.0, 1234.0].map(round_up);
        let expected = [1.0, 0.032, 1.0, 1.2, 1000.0, 1600.0];
        assert!(tops.iter().zip(expected).all(|(top, expected)| (top - expected).abs() < 1e-9));
    }
}
