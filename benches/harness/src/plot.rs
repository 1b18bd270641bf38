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
            Unit::Time => nanos(value).replace(".00 ", " ").replace(".50 ", ".5 "),
            Unit::Count if value < 10.0 => format!("{value:.1}").replace(".0", ""),
            Unit::Count => format!("{value:.0}"),
        }
    }
}

/// What bars are, in most pictures.
pub const TO_THE_SLOWEST: &str = "a dot for the median, a bar to the slowest in a hundred, cut off where it is very long; \
     further left is better";

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

/// Those who are in many pictures have their colours, the others in the order of their appearance.
fn colour(names: &[String], name: &str) -> RGBColor {
    const KNOWN: [&str; 8] =
        ["condvar", "bare futex", "semaphore", "futex_waitv", "epoll", "poll", "iceoryx2", "raw_sync"];
    if let Some(at) = KNOWN.iter().position(|known| name.contains(known)) {
        return OTHERS[at];
    }
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

/// A logarithmic axis: values, and the pixels that they lie at.
struct Axis {
    values: (f64, f64),
    pixels: (i32, i32),
}

impl Axis {
    /// Of some values, with room at both ends; so wide that what is nearly the same looks so.
    fn new(values: impl Iterator<Item = f64>, pixels: (i32, i32)) -> Axis {
        const ROOM: f64 = 1.2;
        const WIDTH: f64 = 4.0;
        let (least, most) = values
            .fold((f64::MAX, f64::MIN_POSITIVE), |(least, most), value| (least.min(value), most.max(value)));
        let more = (WIDTH / (most / least)).sqrt().max(1.0);
        Axis { values: (least / more / ROOM, most * more * ROOM), pixels }
    }

    fn at(&self, value: f64) -> i32 {
        let ((from, to), (first, last)) = (self.values, self.pixels);
        let part = (value / from).ln() / (to / from).ln();
        first + (f64::from(last - first) * part.clamp(0.0, 1.0)) as i32
    }

    /// Round numbers, as many as are of use.
    fn marks(&self) -> Vec<f64> {
        let (from, to) = self.values;
        let steps: &[f64] = match to / from {
            ..10.0 => &[1.0, 1.5, 2.0, 3.0, 4.0, 5.0, 7.0],
            ..300.0 => &[1.0, 2.0, 5.0],
            _ => &[1.0],
        };
        let decades = from.log10().floor() as i32..=to.log10().ceil() as i32;
        let all = decades.flat_map(|power| steps.iter().map(move |step| step * 10f64.powi(power)));
        all.filter(|mark| (from..=to).contains(mark)).collect()
    }
}

fn draw_bars(file: &Path, caption: &Caption, panels: &mut [Panel]) -> Outcome {
    const ROW: i32 = 26;
    /// For the times behind the bars.
    const TIMES: i32 = 150;
    let longest = panels.iter().flat_map(|panel| &panel.bars).map(|bar| bar.0.chars().count()).max();
    let names = 24 + longest.unwrap_or(0) as i32 * 8;
    let rows: i32 = panels.iter().map(|panel| panel.bars.len() as i32).sum();
    let height = 84 + rows * ROW + panels.len() as i32 * 72;
    let root = SVGBackend::new(file, (WIDTH, height as u32)).into_drawing_area();
    let below = titled(&root, caption)?;
    let mut top = 0;
    for panel in panels {
        panel.bars.sort_by(|one, other| one.1.total_cmp(&other.1));
        // (A bar that is so long that all else would look alike is cut off.)
        let slowest = panel.bars.iter().map(|bar| bar.1).fold(0.0, f64::max);
        let ends = panel.bars.iter().flat_map(|(_, p50, p99)| [*p50, p99.min(slowest * 10.0)]);
        let axis = Axis::new(ends, (names, WIDTH as i32 - 48 - TIMES));
        let bottom = top + 26 + panel.bars.len() as i32 * ROW;
        below.draw(&Text::new(panel.title.clone(), (0, top), font(16, INK)))?;
        for mark in axis.marks() {
            let x = axis.at(mark);
            below.draw(&PathElement::new([(x, top + 22), (x, bottom)], FAINT))?;
            let style = anchored(12, HPos::Center, VPos::Top);
            below.draw(&Text::new(Unit::Time.mark(mark), (x, bottom + 4), style))?;
        }
        for (at, (name, p50, p99)) in panel.bars.iter().enumerate() {
            let middle = top + 26 + at as i32 * ROW + ROW / 2;
            let colour = if is_ours(name) { OURS } else { OTHERS[0] };
            let style = anchored(14, HPos::Right, VPos::Center);
            below.draw(&Text::new(name.clone(), (names - 12, middle), style))?;
            let (start, end) = (axis.at(*p50), axis.at(*p99));
            below
                .draw(&Rectangle::new([(start, middle - 3), (end, middle + 3)], colour.mix(0.35).filled()))?;
            below.draw(&Circle::new((start, middle), 6, colour.filled()))?;
            let style = anchored(12, HPos::Left, VPos::Center);
            let times = format!("{} … {}", nanos(*p50), nanos(*p99));
            below.draw(&Text::new(times, (end + 10, middle), style))?;
        }
        top = bottom + 46;
    }
    root.present()?;
    Ok(())
}

fn draw_curves(file: &Path, caption: &Caption, curves: &[Curve]) -> Outcome {
    const HEIGHT: u32 = 560;
    /// For the names behind the curves.
    const NAMES: i32 = 210;
    let (left, right) = (84, WIDTH as i32 - NAMES);
    let (top, bottom) = (108, HEIGHT as i32 - 62);
    let root = SVGBackend::new(file, (WIDTH, HEIGHT)).into_drawing_area();
    titled(&root, caption)?;
    let all = || curves.iter().flat_map(|curve| curve.points.iter().copied());
    let (across, up) = (
        Axis::new(all().map(|point| point.0), (left, right)),
        Axis::new(all().map(|point| point.1), (bottom, top)),
    );
    let mut measured: Vec<f64> = all().map(|point| point.0).collect();
    measured.sort_by(f64::total_cmp);
    measured.dedup();
    for mark in if measured.len() <= 8 { measured } else { across.marks() } {
        let x = across.at(mark);
        root.draw(&PathElement::new([(x, top), (x, bottom)], FAINT))?;
        let style = anchored(12, HPos::Center, VPos::Top);
        root.draw(&Text::new(caption.x.1.mark(mark), (x, bottom + 8), style))?;
    }
    for mark in up.marks() {
        let y = up.at(mark);
        root.draw(&PathElement::new([(left, y), (right, y)], FAINT))?;
        let style = anchored(12, HPos::Right, VPos::Center);
        root.draw(&Text::new(caption.y.1.mark(mark), (left - 10, y), style))?;
    }
    let middle = (left + right) / 2;
    root.draw(&Text::new(caption.x.0, (middle, bottom + 34), anchored(14, HPos::Center, VPos::Top)))?;
    root.draw(&Text::new(caption.y.0, (24, top - 14), anchored(14, HPos::Left, VPos::Bottom)))?;
    let names: Vec<String> = curves.iter().map(|curve| curve.name.clone()).collect();
    let place = |point: &(f64, f64)| (across.at(point.0), up.at(point.1));
    for curve in curves {
        let colour = colour(&names, &curve.name);
        let width = if is_ours(&curve.name) { 3 } else { 2 };
        let points: Vec<(i32, i32)> = curve.points.iter().map(place).collect();
        root.draw(&PathElement::new(points.clone(), colour.stroke_width(width)))?;
        for point in points {
            root.draw(&Circle::new(point, 3, colour.filled()))?;
        }
    }
    // Names behind the curves, each led to from its end, and moved apart where they would lie upon each other.
    let last = |curve: &Curve| curve.points.last().map(place);
    let mut ends: Vec<((i32, i32), &Curve)> =
        curves.iter().filter_map(|curve| Some((last(curve)?, curve))).collect();
    ends.sort_by_key(|(end, _)| end.1);
    let mut free = 0;
    for (end, curve) in ends {
        let height = end.1.max(free);
        free = height + 18;
        let colour = colour(&names, &curve.name);
        root.draw(&PathElement::new([end, (right + 4, height)], colour.mix(0.35)))?;
        let style = font(14, colour).pos(Pos::new(HPos::Left, VPos::Center));
        root.draw(&Text::new(curve.name.clone(), (right + 10, height), style))?;
    }
    root.present()?;
    Ok(())
}
