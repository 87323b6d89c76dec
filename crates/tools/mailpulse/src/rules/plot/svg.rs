//! Plots as one SVG file, one below the other.

use std::path::Path;

use alerting::Look;
use anyhow::anyhow;
use plotters::prelude::*;

use super::{Plot, percent};

/// In pixels.
const WIDTH: u32 = 1000;
const HEIGHT: u32 = 320;

/// The points of a line: more cannot be told apart.
const POINTS: usize = 1000;

const RATE: RGBColor = RGBColor(31, 119, 180);
const BOUND: RGBColor = RGBColor(44, 44, 44);
const EPISODE: RGBColor = RGBColor(214, 39, 40);

/// The colours of warning, critical and page.
const THRESHOLDS: [(&str, RGBColor); 3] = [
    ("warning", RGBColor(230, 171, 2)),
    ("critical", RGBColor(217, 95, 2)),
    ("page", RGBColor(214, 39, 40)),
];

/// Draws the plots.
///
/// # Errors
/// If the file cannot be written.
pub(super) fn draw(plots: &[Plot], file: &Path) -> anyhow::Result<()> {
    let height = HEIGHT * u32::try_from(plots.len().max(1))?;
    let mut text = String::new();
    {
        let root = SVGBackend::with_string(&mut text, (WIDTH, height)).into_drawing_area();
        root.fill(&WHITE)?;
        for (plot, area) in plots.iter().zip(root.split_evenly((plots.len().max(1), 1))) {
            draw_one(plot, &area).map_err(|error| anyhow!("{error}"))?;
        }
        root.present()?;
    }
    std::fs::write(file, text).map_err(|error| anyhow!("cannot write {}: {error}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type DrawError = Box<dyn std::error::Error>;

fn draw_one(plot: &Plot, area: &Area<'_>) -> Result<(), DrawError> {
    let top = plot.top();
    let mut chart = ChartBuilder::on(area)
        .caption(plot.title(), ("sans-serif", 16))
        .margin(12)
        .margin_right(70)
        .x_label_area_size(28)
        .y_label_area_size(60)
        .build_cartesian_2d(plot.from..plot.to, 0.0..top)?;
    chart
        .configure_mesh()
        .disable_x_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .x_label_formatter(&|at| crate::alerts::utc(*at))
        .y_label_formatter(&|rate| percent(*rate))
        .draw()?;
    let bands = plot.episodes.iter().map(|(from, to)| {
        let corners = [(*from, 0.0), (*to, top)];
        Rectangle::new(corners, EPISODE.mix(0.15).filled())
    });
    chart
        .draw_series(bands)?
        .label("episode")
        .legend(|(x, y)| Rectangle::new([(x, y - 5), (x + 16, y + 5)], EPISODE.mix(0.15).filled()));
    for (name, threshold) in plot.thresholds() {
        let colour = THRESHOLDS.iter().find(|(other, _)| *other == name).map_or(BLACK, |it| it.1);
        let line = LineSeries::new([(plot.from, threshold), (plot.to, threshold)], colour);
        let label = format!("{name} {}", percent(threshold));
        chart.draw_series(line)?.label(label).legend(move |(x, y)| sample(x, y, colour));
    }
    let columns = plot.columns(POINTS);
    for (name, colour) in [("rate", RATE), (plot.bound_name(), BOUND)] {
        let value = |look: &Look| if name == "rate" { look.rate() } else { look.bound };
        let mut lines = pieces(&columns).into_iter().map(|piece| {
            let points = piece.into_iter().map(|look| (look.at, value(&look).min(top)));
            LineSeries::new(points, colour)
        });
        let first = lines.next().unwrap_or_else(|| LineSeries::new(Vec::new(), colour));
        chart.draw_series(first)?.label(name).legend(move |(x, y)| sample(x, y, colour));
        for line in lines {
            chart.draw_series(line)?;
        }
    }
    chart
        .configure_series_labels()
        .background_style(WHITE.mix(0.8))
        .border_style(BLACK.mix(0.3))
        .position(SeriesLabelPosition::UpperLeft)
        .draw()?;
    Ok(())
}

fn sample(x: i32, y: i32, colour: RGBColor) -> PathElement<(i32, i32)> {
    PathElement::new([(x, y), (x + 16, y)], colour)
}

/// Returns the parts of a line between times without mail. Times with less mail than columns do not interrupt it.
fn pieces(columns: &[Option<Look>]) -> Vec<Vec<Look>> {
    /// So many columns without mail interrupt a line.
    const GAP: usize = POINTS / 50;
    let mut pieces: Vec<Vec<Look>> = Vec::new();
    let mut empty = GAP;
    for look in columns {
        match look {
            None => empty += 1,
            Some(look) => {
                match pieces.last_mut() {
                    Some(piece) if empty < GAP => piece.push(*look),
                    _ => pieces.push(vec![*look]),
                }
                empty = 0;
            }
        }
    }
    pieces
}

#[cfg(test)]
mod tests {
    use super::super::tests::plot;
    use super::*;

    #[test]
    fn every_plot_is_in_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("plots.svg");
        draw(&[plot(), plot()], &file).unwrap();
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text.matches("hard_bounces of source/sendgrid/acme").count(), 2, "{text}");
        for label in
            ["rate", "lower bound", "warning 2.00 %", "critical 5.00 %", "page 10 %", "episode"]
        {
            assert!(text.matches(&format!("\n{label}\n")).count() == 2, "{label}: {text}");
        }
        let nowhere = draw(&[], &directory.path().join("missing/plots.svg"));
        assert!(nowhere.unwrap_err().to_string().contains("missing/plots.svg"));
    }

    #[test]
    fn a_line_is_interrupted_where_there_is_no_mail() {
        let look = Some(Look { at: 0, numerator: 1, volume: 2, bound: 0.1 });
        let columns = [vec![look; 3], vec![None; 5], vec![look; 2], vec![None; 50], vec![look]];
        let lengths: Vec<usize> = pieces(&columns.concat()).iter().map(Vec::len).collect();
        assert_eq!(lengths, [5, 1]);
    }
}
