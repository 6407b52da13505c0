//! `--new-certificate`: creates a key and a self-signed certificate, so that a federation needs
//! no other program.

use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use rcgen::{CertificateParams, DistinguishedName, DnType, KeyPair};

use super::{output, stop::Stop};
use crate::model::{
    Fingerprint,
    error::{Error, Result},
};

/// Writes `NAME.pem` and `NAME.key`, and prints the lines for the configurations.
pub(super) fn make(name: &str, out: &mut dyn Write) -> Result<(), Stop> {
    let (certificate, key) = (format!("{name}.pem"), format!("{name}.key"));
    let created = self_signed(name)
        .map_err(|error| Error::Invalid(format!("the certificate can't be created: {error}")))?;
    if Path::new(&certificate).exists() {
        return Err(exists(&certificate).into());
    }
    write(&key, 0o600, &created.key)?;
    if let Err(error) = write(&certificate, 0o644, &created.certificate) {
        // A key without its certificate would make the next attempt fail.
        let _ = fs::remove_file(&key);
        return Err(error.into());
    }
    output::line(
        out,
        &format!("{certificate} and {key} are made; nobody else may have the key."),
    )?;
    output::line(out, "\nFor this peer:\n\n[tls]")?;
    output::line(
        out,
        &format!("certificate = {certificate:?}\nkey = {key:?}"),
    )?;
    output::line(
        out,
        "\nFor the other peers, under [peers.NAME] with the url of this one:\n",
    )?;
    output::line(
        out,
        &format!("certificates = [\"{}\"]", created.fingerprint),
    )
}

/// A new certificate with its key.
struct Created {
    certificate: String,
    key: String,
    fingerprint: Fingerprint,
}

/// The certificate does not expire: it is registered, and replaced, by hand.
fn self_signed(name: &str) -> Result<Created, rcgen::Error> {
    let mut params = CertificateParams::default();
    let mut subject = DistinguishedName::new();
    let file = Path::new(name).file_name().unwrap_or_default();
    subject.push(DnType::CommonName, file.to_string_lossy().into_owned());
    params.distinguished_name = subject;
    let key = KeyPair::generate()?;
    let certificate = params.self_signed(&key)?;
    Ok(Created {
        certificate: certificate.pem(),
        key: key.serialize_pem(),
        fingerprint: Fingerprint::of(certificate.der()),
    })
}

fn exists(path: &str) -> Error {
    Error::Invalid(format!(
        "{path} exists and is not overwritten; move it away or choose another name"
    ))
}

fn write(path: &str, mode: u32, text: &str) -> Result<()> {
    let mut file = match File::options()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)
    {
        Ok(file) => file,
        Err(error) if error.kind() == std::io::ErrorKind::AlreadyExists => {
            return Err(exists(path));
        }
        Err(source) => {
            let what = format!("{path} can't be created");
            return Err(Error::Io { what, source });
        }
    };
    let written = file
        .write_all(text.as_bytes())
        .and_then(|()| file.sync_all());
    written.map_err(|source| Error::Io {
        what: format!("can't write {path}"),
        source,
    })
}
