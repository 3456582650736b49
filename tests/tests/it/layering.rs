//! Imports of the core crate point down only (ARCHITECTURE.md, "Map").

use std::path::{Path, PathBuf};

/// Modules by layer, lowest first.
const LAYERS: [&[&str]; 6] = [
    &[
        "subject",
        "reply_subject",
        "inbox_token",
        "log_limit",
        "error",
        "principal",
        "validity",
        "readiness",
        "metrics",
        "decode",
        "renamed_variable",
        "secret_var",
    ],
    &["message", "deadline", "trace", "wire", "connection", "kv"],
    &["providers", "reply", "extract", "guard"],
    &["route"],
    &["service", "client", "events"],
    &["testing"],
];

/// What one layer may import of its own or a higher one, each with its reason.
const ALLOWED: [(&str, &str); 1] = [
    // An answer is written around what `IntoReply` left, so the dialects know its two outcomes.
    ("wire", "reply"),
];

fn layer(module: &str) -> Option<usize> {
    LAYERS.iter().position(|layer| layer.contains(&module))
}

fn sources(folder: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|path| if path.is_dir() { sources(&path) } else { vec![path] }).collect()
}

/// The modules that a line of code names as `crate::module`, braces included.
fn imported(text: &str) -> Vec<String> {
    text.split("crate::")
        .skip(1)
        .flat_map(|rest| {
            let group = rest.strip_prefix('{').and_then(|rest| rest.split_once('}'));
            match group {
                Some((group, _)) => group.split(',').map(str::trim).map(first_word).collect(),
                None => vec![first_word(rest)],
            }
        })
        .filter(|module| layer(module).is_some())
        .collect()
}

fn first_word(text: &str) -> String {
    text.chars().take_while(|c| c.is_ascii_alphanumeric() || *c == '_').collect()
}

#[test]
fn imports_point_down_only() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../nats-rpc/src");
    let mut seen = 0;
    for path in sources(&root) {
        let relative = path.strip_prefix(&root).unwrap();
        let module = relative.components().next().unwrap().as_os_str().to_str().unwrap().trim_end_matches(".rs");
        let Some(own) = layer(module) else {
            assert_eq!(module, "lib", "{module} has no layer: give it one in ARCHITECTURE.md and here");
            continue;
        };
        let text = std::fs::read_to_string(&path).unwrap();
        let code = text.split("#[cfg(test)]").next().unwrap();
        let code: String = code.lines().filter(|line| !line.trim_start().starts_with("//")).collect();
        for import in imported(&code) {
            seen += 1;
            let allowed = import == module || ALLOWED.contains(&(module, import.as_str()));
            let below = layer(&import).unwrap() <= own;
            assert!(allowed || below, "{} imports {import}, which stands above it", relative.display());
            let siblings = [("service", "client"), ("client", "service")];
            assert!(!siblings.contains(&(module, &import)), "service and client know nothing of each other");
        }
    }
    assert!(seen > 50, "only {seen} imports were found: the test looks at the wrong place");
}
