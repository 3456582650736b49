//! Environment variables that had another name in an earlier version.

/// Error of an environment variable that is set under its old name. It contains no part of the value.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{old} was renamed; set {new} instead")]
#[non_exhaustive]
pub struct RenamedVariable {
    /// The name under which the variable is set.
    pub old: &'static str,
    /// The new name, with a hint if its values have another meaning.
    pub new: &'static str,
}

/// Checks that none of the `renamed` variables is set under its old name: pairs of the old name and the new one.
///
/// Without this check, a program would silently ignore a setting of its operator. An empty variable counts as absent.
///
/// ```
/// use nats_rpc::renamed_variable;
///
/// let vars = |name: &str| (name == "OLD_LIMIT").then(|| "7".to_owned());
/// let error = renamed_variable(vars, &[("OLD_LIMIT", "NEW_LIMIT")]).unwrap_err();
/// assert_eq!(error.to_string(), "OLD_LIMIT was renamed; set NEW_LIMIT instead");
/// ```
///
/// # Errors
/// [`RenamedVariable`] with the first pair whose old name is set.
pub fn renamed_variable(
    vars: impl Fn(&str) -> Option<String>,
    renamed: &[(&'static str, &'static str)],
) -> Result<(), RenamedVariable> {
    match renamed.iter().find(|(old, _)| vars(old).is_some_and(|value| !value.is_empty())) {
        Some(&(old, new)) => Err(RenamedVariable { old, new }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn renamed_variable_is_reported_unless_empty() {
        let renamed = [("A", "B"), ("C", "D")];
        let check = |value: &str| renamed_variable(|name| (name == "C").then(|| value.to_owned()), &renamed);
        assert_eq!(check("1"), Err(RenamedVariable { old: "C", new: "D" }));
        assert_eq!(check(""), Ok(()));
        assert_eq!(renamed_variable(|name| (name == "D").then(|| "1".to_owned()), &renamed), Ok(()));
    }
}
