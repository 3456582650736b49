use std::io;

use async_nats::rustls::pki_types::pem::PemObject;
use async_nats::rustls::pki_types::{CertificateDer, PrivateKeyDer};
use async_nats::rustls::{ClientConfig, RootCertStore};

use crate::connection::NatsConfig;

/// Builds the same TLS configuration as async-nats does for its own connections.
///
/// # Errors
/// If a file of `config`, or the system's certificate authorities, cannot be read.
pub(super) async fn client_config(config: &NatsConfig) -> io::Result<ClientConfig> {
    let config = config.clone();
    // The function reads files.
    tokio::task::spawn_blocking(move || make(&config)).await?
}

fn make(config: &NatsConfig) -> io::Result<ClientConfig> {
    let mut roots = RootCertStore::empty();
    match &config.root_certificate {
        Some(path) => {
            for certificate in CertificateDer::pem_file_iter(path).map_err(io::Error::other)? {
                roots.add(certificate.map_err(io::Error::other)?).map_err(io::Error::other)?;
            }
        }
        None => {
            // Without system authorities, the handshake fails with an error that says so.
            roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        }
    }
    let builder = ClientConfig::builder().with_root_certificates(roots);
    match &config.client_certificate {
        None => Ok(builder.with_no_client_auth()),
        Some((certificate, key)) => {
            let chain: Result<Vec<_>, _> =
                CertificateDer::pem_file_iter(certificate).map_err(io::Error::other)?.collect();
            let key = PrivateKeyDer::from_pem_file(key).map_err(io::Error::other)?;
            builder.with_client_auth_cert(chain.map_err(io::Error::other)?, key).map_err(io::Error::other)
        }
    }
}
