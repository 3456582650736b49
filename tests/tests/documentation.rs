//! Pages that must agree with the code.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// Upper-case text in the code that is no environment variable: codes, outcomes, and names that tests use.
const NOT_VARIABLES: [&str; 22] = [
    "CARGO_PKG_NAME",
    "CARGO_PKG_VERSION",
    "CONNECTION_LOST",
    "DEADLINE_EXCEEDED",
    "DEMO_UNDER_TEST",
    "INBOX_FORBIDDEN",
    "INCOMPLETE_RESPONSE",
    "INVALID_ARGUMENT",
    "METHOD_NOT_ALLOWED",
    "NATS_RPC_TEST_CHILD",
    "NEW_LIMIT",
    "NO_RESPONDERS",
    "NOT_FOUND",
    "OLD_LIMIT",
    "PAYLOAD_TOO_LARGE",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "TIMED_OUT",
    "TOO_LARGE",
    "UNSUPPORTED_MEDIA_TYPE",
    "CAPTURED_BY_STREAM",
    "NOT_IMPLEMENTED",
];

/// Variables by the names that they had: the code rejects these and names the new ones.
const RENAMED: [(&str, &str); 6] = [
    ("GATEWAY_CONNECTIONS", "GATEWAY_MAX_CONNECTIONS"),
    ("GATEWAY_IDLE_MS", "GATEWAY_KEEP_ALIVE_MS"),
    ("GATEWAY_SILENCE_MS", "GATEWAY_READ_TIMEOUT_MS"),
    ("JWT_REVOCATIONS_STALE_MS", "JWT_REVOCATION_MAX_AGE_MS"),
    ("JWT_WITHOUT_REVOCATIONS", "JWT_CHECK_REVOCATIONS"),
    ("KEY_MARGIN_MS", "KEY_ACTIVATION_DELAY_MS"),
];

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

fn files(folder: &Path, extension: &str, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).expect("the folder is there") {
        let path = entry.expect("the folder can be read").path();
        if path.is_dir() {
            files(&path, extension, found);
        } else if path.extension().is_some_and(|known| known == extension) {
            found.push(path);
        }
    }
}

fn is_variable(text: &str) -> bool {
    text.contains('_')
        && text.starts_with(|first: char| first.is_ascii_uppercase())
        && text.ends_with(|last: char| last.is_ascii_uppercase() || last.is_ascii_digit())
        && text.bytes().all(|byte| byte.is_ascii_uppercase() || byte.is_ascii_digit() || byte == b'_')
}

/// The names that stand between two of these marks in `text`.
fn quoted(text: &str, mark: char) -> impl Iterator<Item = &str> {
    text.lines().flat_map(move |line| line.split(mark)).filter(|part| is_variable(part))
}

#[test]
fn configuration_page_lists_every_variable_and_no_other() {
    let mut sources = Vec::new();
    for part in ["src", "jwt/src", "auth/src"] {
        files(&root().join("nats-rpc").join(part), "rs", &mut sources);
    }
    for service in ["auth", "users", "gateway", "demo"] {
        files(&root().join("services").join(service).join("src"), "rs", &mut sources);
    }
    let code: Vec<String> = sources.iter().map(|path| fs::read_to_string(path).expect("the file is text")).collect();
    let read: BTreeSet<&str> =
        code.iter().flat_map(|text| quoted(text, '"')).filter(|name| !NOT_VARIABLES.contains(name)).collect();

    let page = fs::read_to_string(root().join("docs/configuration.md")).expect("the page is there");
    let rows: String = page.lines().filter(|line| line.starts_with("| `")).map(|line| format!("{line}\n")).collect();
    let first_cells: Vec<&str> = rows.lines().filter_map(|row| row.split('|').nth(1)).collect();
    let listed: BTreeSet<&str> = first_cells.iter().flat_map(|cell| quoted(cell, '`')).collect();
    for (old, new) in RENAMED {
        assert!(read.contains(old) && listed.contains(new), "{old} is rejected, {new} is documented");
    }
    let read: BTreeSet<&str> = read.into_iter().filter(|name| RENAMED.iter().all(|(old, _)| old != name)).collect();
    let twins = listed.iter().filter_map(|name| name.strip_suffix("_FILE"));
    let read: BTreeSet<&str> = read.into_iter().filter(|name| name.strip_suffix("_FILE").is_none()).collect();
    let without_twins: BTreeSet<&str> =
        listed.iter().copied().filter(|name| name.strip_suffix("_FILE").is_none()).collect();
    assert_eq!(read, without_twins);
    assert!(twins.into_iter().all(|name| read.contains(name)), "a `_FILE` variable has a twin");
}

#[test]
fn relative_links_lead_to_files_that_exist() {
    let mut pages = vec![
        root().join("README.md"),
        root().join("ARCHITECTURE.md"),
        root().join("CONTRIBUTING.md"),
        root().join("SECURITY.md"),
    ];
    files(&root().join("docs"), "md", &mut pages);
    files(&root().join("services"), "md", &mut pages);
    let mut broken = Vec::new();
    for page in pages {
        let text = fs::read_to_string(&page).expect("the page is text");
        let folder = page.parent().expect("a file has a folder");
        for link in text.split("](").skip(1).filter_map(|rest| rest.split(')').next()) {
            let path = link.split('#').next().unwrap_or_default();
            if !path.is_empty() && !path.contains("://") && !folder.join(path).exists() {
                broken.push(format!("{}: {link}", page.display()));
            }
        }
    }
    assert!(broken.is_empty(), "{broken:#?}");
}
