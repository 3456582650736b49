//! The checks of a service that need no connection.

use super::{Check, Service, StartError};
use crate::reply_subject::ReplySubjects;
use crate::route::{Kind, RouteTable};
use crate::subject::overlaps;

impl Service {
    /// Runs the checks, each once.
    pub(super) fn run_checks(&mut self) -> Result<(), StartError> {
        let failed = |check: Check| check().err().map(|error| error.to_string());
        let refusals: Vec<_> = std::mem::take(&mut self.checks).into_iter().filter_map(failed).collect();
        if refusals.is_empty() { Ok(()) } else { Err(StartError::Invalid(refusals)) }
    }

    /// Checks the prefixes of reply subjects against the subjects of the service, without a connection.
    ///
    /// If one of the subjects were below a prefix, a peer could make the service publish there with the service's
    /// permissions.
    pub(super) fn check_reply_prefixes(&self, table: &RouteTable, prefixes: &[String]) -> Result<(), StartError> {
        let handlers = table.entries().iter().map(|entry| entry.pattern.subject().to_owned());
        let declared: Vec<String> = handlers.chain(self.declared_subjects()).collect();
        let refusals: Vec<String> = prefixes
            .iter()
            .flat_map(|prefix| {
                let invalid = ReplySubjects::default().with_prefix(prefix).err().map(|error| error.to_string());
                let below = format!("{prefix}.>");
                let overlaps = declared
                    .iter()
                    .filter(move |subject| overlaps(&below, subject) || overlaps(prefix, subject))
                    .map(|subject| {
                        format!("it overlaps with {subject:?}, to which callers could then have the service publish")
                    });
                let why = invalid.into_iter().chain(overlaps).collect::<Vec<_>>();
                why.into_iter().map(move |why| format!("the reply prefix {prefix:?} cannot be used: {why}"))
            })
            .collect();
        if refusals.is_empty() { Ok(()) } else { Err(StartError::Invalid(refusals)) }
    }

    /// Checks the handlers for conflicts, without a connection.
    pub(super) fn table(&self) -> Result<RouteTable, StartError> {
        let mut refusals = Vec::new();
        let name_is_valid = !self.info.name.is_empty()
            && self.info.name.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'));
        if !name_is_valid {
            let name = &self.info.name;
            refusals.push(format!("the service's name {name:?} may hold only letters, digits, `-` and `_`"));
        }
        if let Err(error) = semver::Version::parse(&self.info.version) {
            let version = &self.info.version;
            refusals.push(format!("the service's version {version:?} is no semantic version such as 1.0.0: {error}"));
        }
        let prefix = match &self.prefix {
            Ok(prefix) => prefix.as_ref(),
            Err(error) => {
                refusals.push(format!("the subject prefix: {error}"));
                None
            }
        };
        let is_of_events =
            |pattern: &String| self.routes.iter().any(|route| route.kind == Kind::Event && route.pattern == pattern);
        refusals.extend(self.republished.iter().filter(|pattern| !is_of_events(pattern)).map(|pattern| {
            format!("accept_republished({pattern:?}): no event handler of the service has this pattern")
        }));
        let guards_all = self.setup.iter().any(|setup| setup.guards_all);
        match RouteTable::new(&self.info.name, prefix, &self.routes, guards_all) {
            Ok(table) if refusals.is_empty() => {
                self.check_reply_prefixes(&table, &self.reply_prefixes)?;
                Ok(table)
            }
            Ok(_) => Err(StartError::Invalid(refusals)),
            Err(more) => Err(StartError::Invalid(refusals.into_iter().chain(more).collect())),
        }
    }
}
