//! The chart of the latencies, as SVG.

use std::error::Error;
use std::fmt::Write;
use std::fs;
use std::path::Path;

use crate::rpc::Row;

const WIDTH: f64 = 720.0;
/// The horizontal start of all bars, and the end of the longest.
const BARS: (f64, f64) = (220.0, 660.0);
const BAR: f64 = 11.0;
const GROUP: f64 = 34.0;
const TOP: f64 = 58.0;

/// Draws the p50 and p99 of each of `rows`, with its name, to `path`.
pub(crate) fn write(path: &Path, load: &str, rows: &[(String, &Row)]) -> Result<(), Box<dyn Error>> {
    if let Some(folder) = path.parent() {
        fs::create_dir_all(folder)?;
    }
    fs::write(path, draw(load, rows)?)?;
    Ok(())
}

fn draw(load: &str, rows: &[(String, &Row)]) -> Result<String, std::fmt::Error> {
    let longest = rows.iter().map(|(_, row)| row.p99_us).fold(1.0, f64::max);
    let height = TOP + GROUP * rows.len() as f64 + 6.0;
    let mut svg = String::new();
    writeln!(
        svg,
        r#"<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" font-family="sans-serif" font-size="12" role="img" aria-label="Latency, {load}">"#
    )?;
    // Colors that are readable on light and on dark pages.
    writeln!(svg, "<style>text {{ fill: #767676 }} .p50 {{ fill: #2f81f7 }} .p99 {{ fill: #a371f7 }}</style>")?;
    writeln!(svg, r#"<text x="0" y="16" font-size="14">Latency, {load}, in microseconds: shorter is better</text>"#)?;
    for (x, class) in [(BARS.0, "p50"), (BARS.0 + 70.0, "p99")] {
        writeln!(svg, r#"<rect class="{class}" x="{x}" y="30" width="11" height="11"/>"#)?;
        writeln!(svg, r#"<text x="{}" y="40">{class}</text>"#, x + 16.0)?;
    }
    for (index, (name, row)) in rows.iter().enumerate() {
        let top = TOP + GROUP * index as f64;
        let weight = if row.contestant == "nats-rpc" { "bold" } else { "normal" };
        let (x, y) = (BARS.0 - 8.0, top + BAR + 4.0);
        writeln!(svg, r#"<text x="{x}" y="{y}" text-anchor="end" font-weight="{weight}">{name}</text>"#)?;
        for (offset, class, value) in [(0.0, "p50", row.p50_us), (BAR + 1.0, "p99", row.p99_us)] {
            let (x, y) = (BARS.0, top + offset);
            let width = (BARS.1 - BARS.0) * value / longest;
            writeln!(svg, r#"<rect class="{class}" x="{x}" y="{y}" width="{width:.1}" height="{BAR}"/>"#)?;
            writeln!(svg, r#"<text x="{:.1}" y="{}" font-size="10">{value:.0}</text>"#, x + width + 5.0, y + 9.0)?;
        }
    }
    svg.push_str("</svg>\n");
    Ok(svg)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_longest_bar_fills_the_picture_and_the_others_are_in_proportion() {
        let row = |contestant, p50_us, p99_us| Row {
            contestant,
            title: contestant,
            load: "echo",
            cpu_s_per_100k: 0.0,
            rps: 0.0,
            p50_us,
            p99_us,
            rss_mb: 0.0,
            ratio_to_baseline: 1.0,
        };
        let (ours, other) = (row("nats-rpc", 110.0, 220.0), row("spawn", 330.0, 440.0));
        let rows = [("ours".to_owned(), &ours), ("theirs".to_owned(), &other)];
        let svg = draw("echo", &rows).expect("text");
        for width in ["110.0", "220.0", "330.0", "440.0"] {
            assert!(svg.contains(&format!("width=\"{width}\"")), "{width}: {svg}");
        }
        assert_eq!(svg.matches("<rect").count(), 6);
        assert!(svg.starts_with("<svg") && svg.ends_with("</svg>\n"));
    }
}
