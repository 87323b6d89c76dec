//! Calibration plots as SVG: of forecasts with about the same probability, the share that happened.

use std::path::Path;

use anyhow::anyhow;
use plotters::prelude::*;
use predict::{Bin, Scores};

/// In pixels.
const SIZE: u32 = 340;

const POINT: RGBColor = RGBColor(31, 119, 180);
const DIAGONAL: RGBColor = RGBColor(140, 140, 140);

/// The calibration in one world.
pub(super) struct Plot<'a> {
    title: String,
    bins: &'a [Bin],
}

impl<'a> Plot<'a> {
    pub(super) fn new(world: &str, scores: &Scores, bins: &'a [Bin]) -> Self {
        Self { title: format!("{world}, ECE {:.3}", scores.ece), bins }
    }
}

/// Draws the plots side by side.
pub(super) fn draw(plots: &[Plot<'_>], file: &Path) -> anyhow::Result<()> {
    let mut text = String::new();
    {
        let size = (SIZE * u32::try_from(plots.len().max(1))?, SIZE);
        let root = SVGBackend::with_string(&mut text, size).into_drawing_area();
        root.fill(&WHITE)?;
        for (plot, area) in plots.iter().zip(root.split_evenly((1, plots.len().max(1)))) {
            draw_one(plot, &area).map_err(|error| anyhow!("cannot draw: {error}"))?;
        }
        root.present()?;
    }
    std::fs::write(file, text).map_err(|error| anyhow!("cannot write {}: {error}", file.display()))
}

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type DrawError = Box<dyn std::error::Error>;

fn draw_one(plot: &Plot<'_>, area: &Area<'_>) -> Result<(), DrawError> {
    let mut chart = ChartBuilder::on(area)
        .caption(&plot.title, ("sans-serif", 15))
        .margin(10)
        .margin_right(16)
        .x_label_area_size(38)
        .y_label_area_size(48)
        .build_cartesian_2d(0.0..1.0, 0.0..1.0)?;
    chart
        .configure_mesh()
        .light_line_style(TRANSPARENT)
        .x_labels(6)
        .y_labels(6)
        .x_desc("predicted")
        .y_desc("happened")
        .draw()?;
    chart.draw_series(LineSeries::new([(0.0, 0.0), (1.0, 1.0)], DIAGONAL))?;
    let points: Vec<_> = plot.bins.iter().map(|bin| (bin.predicted, bin.happened)).collect();
    chart.draw_series(LineSeries::new(points.iter().copied(), POINT))?;
    chart.draw_series(points.iter().map(|point| Circle::new(*point, 4, POINT.filled())))?;
    Ok(())
}
