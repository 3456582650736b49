//! Certificates for tests: an authority that only the test trusts, and certificates that it signs.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DnType, ExtendedKeyUsagePurpose, IsCa, KeyPair,
    KeyUsagePurpose, date_time_ymd,
};
use tempfile::TempDir;

/// An authority with a temporary folder for its certificates; dropping it removes the folder.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    folder: TempDir,
}

/// A certificate with its key, as PEM files.
#[derive(Clone, Debug)]
pub struct Certificate {
    /// The certificate's file.
    pub certificate: PathBuf,
    /// The key's file.
    pub key: PathBuf,
}

impl Authority {
    /// Creates an authority.
    ///
    /// # Panics
    /// If the system has no random numbers, or no temporary folder can be created.
    pub fn new() -> Self {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
        params.distinguished_name.push(DnType::CommonName, "an authority for tests");
        let issuer = CertifiedIssuer::self_signed(params, key()).expect("an authority can be made");
        let folder = tempfile::Builder::new().prefix("certificates-").tempdir().expect("a temporary folder");
        write(&folder.path().join("ca.pem"), &issuer.pem());
        Self { issuer, folder }
    }

    /// Returns the PEM file of its own certificate.
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("ca.pem")
    }

    /// Issues a certificate for a server on 127.0.0.1.
    pub fn server(&self) -> Certificate {
        self.sign("server", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth])
    }

    /// Issues the same certificate, but expired.
    pub fn expired_server(&self) -> Certificate {
        self.sign("expired", |params| {
            params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ServerAuth];
            params.not_before = date_time_ymd(2020, 1, 1);
            params.not_after = date_time_ymd(2020, 1, 2);
        })
    }

    /// Issues a certificate for a client.
    pub fn client(&self) -> Certificate {
        self.sign("client", |params| params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth])
    }

    fn sign(&self, name: &str, what: impl FnOnce(&mut CertificateParams)) -> Certificate {
        let mut params = CertificateParams::new(["127.0.0.1".to_owned()]).expect("an address is a name");
        params.distinguished_name.push(DnType::CommonName, name);
        what(&mut params);
        let key = key();
        let signed = params.signed_by(&key, &self.issuer).expect("a certificate can be signed");
        let file = |end: &str| self.folder.path().join(format!("{name}.{end}"));
        let certificate = Certificate { certificate: file("pem"), key: file("key") };
        write(&certificate.certificate, &signed.pem());
        write(&certificate.key, &key.serialize_pem());
        certificate
    }
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

fn key() -> KeyPair {
    KeyPair::generate().expect("the system gives random numbers")
}

fn write(path: &Path, text: &str) {
    let written: io::Result<()> = fs::write(path, text);
    written.unwrap_or_else(|error| panic!("{}: {error}", path.display()));
}
