//! Every test that `docs/security.md` names is there.

use std::path::{Path, PathBuf};

const DOC: &str = include_str!("../../../docs/security.md");

#[test]
fn every_promise_of_the_security_page_has_the_test_that_it_names() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("..");
    let named: Vec<&str> = DOC.split('`').skip(1).step_by(2).filter(|code| is_test(code)).collect();
    assert!(named.len() > 30, "only {} tests are named: is the page still of this form?", named.len());
    for name in named {
        let (module, function) = name.rsplit_once("::").unwrap();
        let text = sources(&root, module).into_iter().find_map(|path| std::fs::read_to_string(path).ok());
        let text = text.unwrap_or_else(|| panic!("{name}: there is no such module"));
        let lines: Vec<&str> = text.lines().map(str::trim).collect();
        let at = lines.iter().position(|line| line.contains(&format!("fn {function}(")));
        let at = at.unwrap_or_else(|| panic!("{name}: there is no such function"));
        assert!(lines[..at].iter().rev().take(3).any(|line| line.contains("test")), "{name} is no test");
    }
    for id in attacks() {
        let fixture = include_str!("../../fixtures/attacks.json");
        assert!(fixture.contains(&format!("\"{id}\"")), "there is no attack {id}");
    }
}

fn is_test(code: &str) -> bool {
    code.starts_with("it::") || code.starts_with("nats_rpc::")
}

/// The ids behind the word `attack`.
fn attacks() -> impl Iterator<Item = &'static str> {
    DOC.split("attack `").skip(1).filter_map(|rest| rest.split('`').next())
}

/// Where a module may be.
fn sources(root: &Path, module: &str) -> Vec<PathBuf> {
    let (root, module) = match module.split_once("::") {
        Some(("it", module)) => (root.join("tests/tests/it"), module),
        Some((_, module)) => (root.join("nats-rpc/src"), module),
        None => (root.join("tests/tests"), module),
    };
    let path = module.replace("::", "/");
    // Unit tests stand in a module `tests` of the file that they test, which the page does not name.
    [format!("{path}.rs"), format!("{path}/mod.rs")].map(|path| root.join(path)).to_vec()
}
