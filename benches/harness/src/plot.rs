//! The results as pictures: times of many subjects as bars from the median to the slowest of a hundred, and curves.

use std::path::Path;

use plotters::coord::Shift;
use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use crate::report::nanos;
use crate::subjects::is_ours;

type Outcome = Result<(), Box<dyn std::error::Error>>;
type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

const WIDTH: u32 = 960;
const INK: RGBColor = RGBColor(40, 44, 52);
const FAINT: RGBColor = RGBColor(226, 229, 234);
/// waitqueue's.
const OURS: RGBColor = RGBColor(214, 69, 46);
const OTHERS: [RGBColor; 9] = [
    RGBColor(46, 110, 180),
    RGBColor(58, 145, 86),
    RGBColor(140, 86, 170),
    RGBColor(190, 140, 30),
    RGBColor(70, 150, 165),
    RGBColor(150, 98, 70),
    RGBColor(200, 100, 150),
    RGBColor(110, 120, 60),
    RGBColor(120, 124, 132),
];

/// Subjects that share an axis.
pub struct Panel {
    /// Its case.
    pub title: String,
    /// Name; median and slowest of a hundred, in nanoseconds.
    pub bars: Vec<(String, f64, f64)>,
}

/// A line of points.
pub struct Curve {
    /// Who.
    pub name: String,
    /// Both of them positive.
    pub points: Vec<(f64, f64)>,
}

/// How an axis is marked.
#[derive(Debug, Clone, Copy)]
pub enum Unit {
    /// Nanoseconds.
    Time,
    /// A number.
    Count,
}

impl Unit {
    fn mark(self, value: f64) -> String {
        match self {
            Unit::Time => nanos(value).replace(".00", ""),
            Unit::Count if value < 10.0 => format!("{value:.1}").replace(".0", ""),
            Unit::Count => format!("{value:.0}"),
        }
    }
}

/// What a picture says above and beside.
pub struct Caption<'a> {
    /// The first line.
    pub title: &'a str,
    /// The second: what is shown, and which way is better.
    pub about: &'a str,
    /// Along the bottom, for curves.
    pub x: (&'a str, Unit),
    /// Along the side, for curves.
    pub y: (&'a str, Unit),
}

/// Draws bars, the fastest on top. A picture that cannot be drawn is a message, not the end of a bench.
pub fn bars(file: &Path, caption: &Caption, panels: &mut [Panel]) {
    tell(file, draw_bars(file, caption, panels));
}

/// Draws curves with both axes in powers of ten.
pub fn curves(file: &Path, caption: &Caption, curves: &[Curve]) {
    tell(file, draw_curves(file, caption, curves));
}

fn tell(file: &Path, outcome: Outcome) {
    match outcome {
        Ok(()) => println!("{}", file.display()),
        Err(error) => eprintln!("{}: {error}", file.display()),
    }
}

/// In the order of their appearance.
fn colour(names: &[String], name: &str) -> RGBColor {
    let alike: Vec<&String> = names.iter().filter(|other| is_ours(other) == is_ours(name)).collect();
    let at = alike.iter().position(|other| *other == name).unwrap_or(0);
    match (is_ours(name), at) {
        (true, 0) => OURS,
        (true, 1) => RGBColor(240, 150, 60),
        (true, _) => RGBColor(130, 20, 60),
        (false, at) => OTHERS[at % OTHERS.len()],
    }
}

fn font(size: u32, colour: RGBColor) -> TextStyle<'static> {
    // (plotters makes letters smaller than it is told, by this.)
    ("sans-serif", f64::from(size) * 1.24).into_font().color(&colour)
}

fn anchored(size: u32, horizontal: HPos, vertical: VPos) -> TextStyle<'static> {
    font(size, INK).pos(Pos::new(horizontal, vertical))
}

/// Draws the caption; what is below is left.
fn titled<'a>(root: &Area<'a>, caption: &Caption) -> Result<Area<'a>, Box<dyn std::error::Error>> {
    root.fill(&WHITE)?;
    root.draw(&Text::new(caption.title.to_owned(), (24, 18), font(22, INK)))?;
    root.draw(&Text::new(caption.about.to_owned(), (24, 46), font(14, RGBColor(100, 105, 115))))?;
    Ok(root.clone().margin(74, 12, 24, 24))
}

/// The powers of ten, with two and five times them, that a range of values contains.
fn marks(from: f64, to: f64) -> Vec<f64> {
    let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
    let all = decades.clone().flat_map(|power| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(power)));
    let is_wide = to / from > 300.0;
    all.filter(|mark| (from..=to).contains(mark))
        .filter(|mark| !is_wide || (mark.log10() - mark.log10().round()).abs() < 1e-9)
        .collect()
}

fn draw_bars(file: &Path, caption: &Caption, panels: &mut [Panel]) -> Outcome {
    const ROW: i32 = 26;
    const NAMES: i32 = 230;
    let rows: i32 = panels.iter().map(|panel| panel.bars.len() as i32).sum();
    let height = 74 + rows * ROW + panels.len() as i32 * 72 + 12;
    let root = SVGBackend::new(file, (WIDTH, height as u32)).into_drawing_area();
    let below = titled(&root, caption)?;
    let mut top = 0;
    for panel in panels {
        panel.bars.sort_by(|one, other| one.1.total_cmp(&other.1));
        let (least, most) = panel
            .bars
            .iter()
            .fold((f64::MAX, 1.0_f64), |(least, most), (_, p50, p99)| (least.min(*p50), most.max(*p99)));
        let (from, to) = (least * 0.8, most * 1.25);
        let width = (WIDTH - 160) as i32 - NAMES;
        let x = |value: f64| NAMES + (f64::from(width) * (value / from).ln() / (to / from).ln()) as i32;
        let bottom = top + 26 + panel.bars.len() as i32 * ROW;
        below.draw(&Text::new(panel.title.clone(), (0, top), font(16, INK)))?;
        for mark in marks(from, to) {
            below.draw(&PathElement::new([(x(mark), top + 22), (x(mark), bottom)], FAINT))?;
            let style = anchored(12, HPos::Center, VPos::Top);
            below.draw(&Text::new(Unit::Time.mark(mark), (x(mark), bottom + 4), style))?;
        }
        for (at, (name, p50, p99)) in panel.bars.iter().enumerate() {
            let middle = top + 26 + at as i32 * ROW + ROW / 2;
            let colour = if is_ours(name) { OURS } else { OTHERS[0] };
            let style = anchored(14, HPos::Right, VPos::Center);
            below.draw(&Text::new(name.clone(), (NAMES - 12, middle), style))?;
            let range = [(x(*p50), middle - 3), (x(*p99), middle + 3)];
            below.draw(&Rectangle::new(range, colour.mix(0.35).filled()))?;
            below.draw(&Circle::new((x(*p50), middle), 6, colour.filled()))?;
            let style = anchored(12, HPos::Left, VPos::Center);
            below.draw(&Text::new(
                format!("{} … {}", nanos(*p50), nanos(*p99)),
                (x(*p99) + 10, middle),
                style,
            ))?;
        }
        top = bottom + 46;
    }
    root.present()?;
    Ok(())
}

fn draw_curves(file: &Path, caption: &Caption, curves: &[Curve]) -> Outcome {
    let root = SVGBackend::new(file, (WIDTH, 600)).into_drawing_area();
    let below = titled(&root, caption)?;
    let names: Vec<String> = curves.iter().map(|curve| curve.name.clone()).collect();
    let all = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let range = |values: &mut dyn Iterator<Item = f64>| {
        let (least, most) =
            values.fold((f64::MAX, 0.0_f64), |(least, most), value| (least.min(value), most.max(value)));
        (least * 0.85)..(most * 1.2)
    };
    let (xs, ys) = (range(&mut all().map(|point| point.0)), range(&mut all().map(|point| point.1)));
    let mut chart = ChartBuilder::on(&below)
        .x_label_area_size(48)
        .y_label_area_size(72)
        .margin_right(190)
        .build_cartesian_2d(xs.clone().log_scale(), ys.clone().log_scale())?;
    chart
        .configure_mesh()
        .light_line_style(WHITE.mix(0.0))
        .bold_line_style(FAINT)
        .axis_style(INK.mix(0.4))
        .x_desc(caption.x.0)
        .y_desc(caption.y.0)
        .x_label_formatter(&|value| caption.x.1.mark(*value))
        .y_label_formatter(&|value| caption.y.1.mark(*value))
        .label_style(font(12, INK))
        .axis_desc_style(font(14, INK))
        .draw()?;
    for curve in curves {
        let colour = colour(&names, &curve.name);
        let width = if is_ours(&curve.name) { 3 } else { 2 };
        chart.draw_series(LineSeries::new(curve.points.iter().copied(), colour.stroke_width(width)))?;
        chart.draw_series(curve.points.iter().map(|point| Circle::new(*point, 3, colour.filled())))?;
    }
    // Names at the ends of their curves, moved apart where they would lie upon each other.
    let mut ends: Vec<(i32, &Curve)> = curves
        .iter()
        .filter_map(|curve| Some((chart.backend_coord(curve.points.last()?).1, curve)))
        .collect();
    ends.sort_by_key(|(height, _)| *height);
    let mut free = 0;
    for (height, curve) in ends {
        let place = height.max(free);
        free = place + 18;
        let colour = colour(&names, &curve.name);
        let style = font(14, colour).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(curve.name.clone(), (WIDTH as i32 - 206, place), style))?;
    }
    root.present()?;
    Ok(())
}
