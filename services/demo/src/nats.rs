//! The nats-server of the demo: the one that `NATS_URL` names, otherwise its own.

use std::path::PathBuf;
use std::process::{ExitCode, Stdio};

use nats_rpc::testing::NatsServer;
use nats_rpc::{Connection, NatsConfig};
use nats_rpc_tests::secured::{Layout, Nkeys};
use rustix::process::{Pid, Signal, kill_process_group};
use tokio::process::{Child, Command};

use crate::BoxError;
use crate::logins::Logins;
use crate::report::Report;

/// The argument with which the program runs [`obtain_here`].
pub const OBTAIN: &str = "obtain-nats-server";
/// The oldest version with a time to live per key, which the services need.
const MINIMUM: (u64, u64) = (2, 11);
/// The user of clients without credentials on the demo's own server: a caller that may also inspect the services.
const VISITOR: &str = r#"
      {
        user: visitor, password: visitor
        permissions: {
          publish: { allow: [
            "_INBOX.>", "$SRV.>", "auth.jwks", "auth.login", "auth.logout", "auth.logout_all", "auth.password.change"
            "auth.refresh", "auth.sessions", "auth.sessions.end", "auth.signup"
            "get_user_profile", "update_user_profile", "users.*.get"
          ] }
          subscribe: { allow: [ "_INBOX.>" ] }
        }
      }
"#;

/// A nats-server to use; the demo's own one ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Server {
    logins: Logins,
    url: String,
    _own: Option<NatsServer>,
}

impl Server {
    /// Uses the server that `NATS_URL` names if it is suitable, otherwise obtains and starts one.
    pub(crate) async fn start(report: &mut Report) -> Result<Self, BoxError> {
        let named = std::env::var("NATS_URL").ok().filter(|url| !url.is_empty());
        let expected = "nats-server 2.11 or newer with JetStream";
        let started = report.step("nats-server", expected, async {
            let (logins, url, own) = match named {
                Some(url) => (Logins::from(NatsConfig::from_env()?), url, None),
                None => {
                    let binary = obtain().await?;
                    let nkeys = Nkeys::generate(Layout::Accounts);
                    let config = with_visitor(&nkeys.server_config(None));
                    let start = || NatsServer::at(binary).config(config).start();
                    let server = tokio::task::spawn_blocking(start).await??;
                    let url = server.url();
                    let logins = Logins::each(move |user| nkeys.config(user, url.clone()));
                    (logins, server.url(), Some(server))
                }
            };
            let version = check(&logins.of("deploy")).await?;
            Ok((format!("{version} at {}", without_login(&url)), Self { logins, url, _own: own }))
        });
        started.await.ok_or_else(|| "there is no nats-server to run on".into())
    }

    pub(crate) fn logins(&self) -> &Logins {
        &self.logins
    }

    pub(crate) fn url(&self) -> &str {
        &self.url
    }
}

/// Returns the configuration with the [`VISITOR`] among the callers.
fn with_visitor(config: &str) -> String {
    let (before, callers) = config.split_once("\n  CLIENTS {").unwrap_or((config, ""));
    let callers = callers.replacen("users: [", &format!("users: [{VISITOR}"), 1);
    format!("no_auth_user: visitor\n{before}\n  CLIENTS {{{callers}")
}

/// Returns the server's version, if the services can run on it.
async fn check(config: &NatsConfig) -> Result<String, BoxError> {
    let connection = Connection::open(config).await?;
    let info = connection.nats().server_info();
    let mut numbers = info.version.split(['.', '-']).map_while(|number| number.parse().ok());
    if (numbers.next().unwrap_or(0), numbers.next().unwrap_or(0)) < MINIMUM {
        return Err(format!("the nats-server is {}: 2.11 is the oldest that will do", info.version).into());
    }
    if !info.jetstream {
        return Err("the nats-server runs without JetStream: start it with `-js`".into());
    }
    Ok(info.version)
}

/// Returns the path of a nats-server, obtained by a process that can be ended while it downloads.
async fn obtain() -> Result<PathBuf, BoxError> {
    let child = Command::new(std::env::current_exe()?)
        .arg(OBTAIN)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .process_group(0)
        .spawn()?;
    let _group = Group::of(&child);
    let output = child.wait_with_output().await?;
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).trim().to_owned();
    match output.status.success() {
        true => Ok(text(&output.stdout).into()),
        false => Err(text(&output.stderr).into()),
    }
}

/// Prints the path of a nats-server, obtaining one if none is installed. The program runs this in the process that
/// [`OBTAIN`] names.
pub fn obtain_here() -> ExitCode {
    use std::io::Write;

    match nats_rpc_tests::nats_server::path() {
        Ok(path) if writeln!(std::io::stdout(), "{}", path.display()).is_ok() => ExitCode::SUCCESS,
        Ok(_) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("{error}");
            ExitCode::FAILURE
        }
    }
}

/// A process group; dropping this ends every process of it that still runs.
struct Group(Option<Pid>);

impl Group {
    fn of(child: &Child) -> Self {
        Self(child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw))
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        if let Some(leader) = self.0 {
            // An error for an empty group is the expected case.
            let _ = kill_process_group(leader, Signal::KILL);
        }
    }
}

fn without_login(url: &str) -> &str {
    url.rsplit_once('@').map_or(url, |(_, host)| host)
}
