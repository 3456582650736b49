use crate::route::{Entry, Kind};

/// Formats a table of the handlers: subject, handler, guards, queue group, hashes of payload and reply, and source
/// location.
pub(super) fn routes_table(entries: &[Entry]) -> String {
    let header = ["SUBJECT", "KIND", "HANDLER", "GUARDS", "QUEUE", "PAYLOAD", "ANSWER", "AT"].map(str::to_owned);
    let rows = entries.iter().map(|entry| {
        let route = entry.route;
        let kind = match route.kind {
            Kind::Message => "message",
            Kind::Event => "event",
        };
        let guards = match (route.public, route.guards) {
            (true, _) => "public".to_owned(),
            (false, []) => "-".to_owned(),
            (false, guards) => guards.join(", "),
        };
        let queue = entry.queue.clone().unwrap_or_else(|| "-".to_owned());
        let handler = format!("{}::{}", route.module, route.handler);
        let contract = (route.contract)();
        let [payload, answer] = [contract.payload, contract.answer].map(|hash| hash.unwrap_or_else(|| "-".to_owned()));
        let subject = entry.pattern.subject().to_owned();
        [subject, kind.to_owned(), handler, guards, queue, payload, answer, route.location().to_string()]
    });
    let rows: Vec<_> = std::iter::once(header).chain(rows).collect();
    let width = |column: usize| rows.iter().map(|row| row[column].chars().count()).max().unwrap_or_default();
    let widths: [usize; 8] = std::array::from_fn(width);
    let mut table = String::new();
    for row in &rows {
        let cells = row.iter().zip(widths).map(|(cell, width)| format!("{cell:width$}"));
        let line = cells.collect::<Vec<_>>().join("  ");
        table.push_str(line.trim_end());
        table.push('\n');
    }
    table
}
