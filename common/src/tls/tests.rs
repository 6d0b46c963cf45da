//! Tests of names, files, and of the handshake in memory.

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType, date_time_ymd,
};
use rustls::pki_types::ServerName;
use rustls::{ClientConnection, ServerConnection};

use super::*;

struct Authority(CertifiedIssuer<'static, KeyPair>);

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("key");
        Self(CertifiedIssuer::self_signed(params, key).expect("signs"))
    }

    fn pem(&self) -> String {
        self.0.pem()
    }

    /// Certificate and key of a holder with these names.
    fn issue(&self, names: &[SanType]) -> (rcgen::Certificate, String) {
        let mut params = CertificateParams::new([]).expect("no names");
        params.subject_alt_names = names.to_vec();
        params.not_after = date_time_ymd(2040, 1, 2);
        let key = KeyPair::generate().expect("key");
        let certificate = params.signed_by(&key, &self.0).expect("signs");
        (certificate, key.serialize_pem())
    }

    fn credentials(&self, names: &[SanType]) -> Credentials {
        let (certificate, key) = self.issue(names);
        Credentials {
            ca: Pem::new("ca.pem", &self.pem()),
            certificate: Pem::new("cert.pem", &certificate.pem()),
            key: Pem::new("cert.key", &key),
        }
    }
}

fn uri(text: &str) -> SanType {
    SanType::URI(text.try_into().expect("ASCII"))
}

fn dns(text: &str) -> SanType {
    SanType::DnsName(text.try_into().expect("ASCII"))
}

fn identity(names: &[SanType]) -> Result<AgentId, IdentityError> {
    agent_identity(Authority::new().issue(names).0.der())
}

#[test]
fn an_agent_is_named_by_exactly_one_uri() {
    let edge = AgentId::new("edge-1").expect("valid");
    assert_eq!(
        identity(&[uri("tollgate://agent/edge-1")]),
        Ok(edge.clone())
    );
    let others = [
        dns("edge-2"),
        uri("spiffe://example.org/edge-3"),
        uri("tollgate://agent/edge-1"),
    ];
    assert_eq!(identity(&others), Ok(edge));
    assert_eq!(identity(&[]), Err(IdentityError::Missing));
    assert_eq!(identity(&[dns("edge-1")]), Err(IdentityError::Missing));
    assert_eq!(
        identity(&[uri("tollgate://agent/a"), uri("tollgate://agent/a")]),
        Err(IdentityError::Several(2))
    );
    assert_eq!(
        identity(&[uri("tollgate://agent/a"), uri("tollgate://collector/a")]),
        Err(IdentityError::Several(2))
    );
    assert!(matches!(
        identity(&[uri("tollgate://collector/a")]),
        Err(IdentityError::NotAnAgent(_))
    ));
    for name in ["", "a b", "_reserved", "a%20b"] {
        let name = uri(&format!("{AGENT_URI_PREFIX}{name}"));
        assert!(matches!(identity(&[name]), Err(IdentityError::Name(_))));
    }
}

#[test]
fn bytes_that_are_no_certificate_are_malformed() {
    let malformed = |der: &[u8]| {
        assert!(matches!(
            agent_identity(der),
            Err(IdentityError::Malformed(_))
        ));
        assert!(matches!(
            CertificateInfo::of(der),
            Err(IdentityError::Malformed(_))
        ));
    };
    malformed(b"");
    malformed(b"certificate");
    let (certificate, _) = Authority::new().issue(&[uri("tollgate://agent/a")]);
    let der = certificate.der().to_vec();
    malformed(&der[..der.len() - 1]);
    malformed(&[&der[..], &[0]].concat());
    // Whatever is damaged: an answer, no panic.
    for at in 0..der.len() {
        for mask in [0x01, 0x80, 0xff] {
            let mut flipped = der.clone();
            flipped[at] ^= mask;
            let _ = agent_identity(&flipped);
        }
    }
}

#[test]
fn expiry_is_reported() {
    let credentials = Authority::new().credentials(&[uri("tollgate://agent/a")]);
    let info = credentials.certificate.certificate_info().expect("valid");
    assert_eq!(info.not_after.to_string(), "2040-01-02T00:00:00.000Z");
    assert!(!info.serial.is_empty());
    let before = info.not_after.plus_millis(-90_000);
    assert_eq!(info.expires_in_secs(before), 90);
    assert_eq!(info.expires_in_secs(info.not_after.plus_millis(1000)), -1);
}

#[test]
fn errors_name_the_file() {
    let authority = Authority::new();
    let good = || authority.credentials(&[dns("localhost")]);
    let error = |credentials: &Credentials| {
        let server = server_config(credentials).expect_err("bad").to_string();
        let client = client_config(credentials).expect_err("bad").to_string();
        assert_eq!(server, client);
        client
    };
    let missing = Pem::read(Path::new("/nonexistent/ca.pem"))
        .err()
        .expect("missing");
    assert!(missing.to_string().contains("/nonexistent/ca.pem"));
    let empty = Credentials {
        ca: Pem::new("empty.pem", ""),
        ..good()
    };
    assert!(error(&empty).starts_with("empty.pem holds no certificate"));
    let swapped = Credentials {
        key: Pem::new("swapped.pem", &authority.pem()),
        ..good()
    };
    assert!(error(&swapped).starts_with("swapped.pem holds no private key"));
    let broken = "-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n";
    let broken = Credentials {
        certificate: Pem::new("broken.pem", broken),
        ..good()
    };
    assert!(error(&broken).starts_with("broken.pem is not valid PEM"));
    let junk = "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n";
    let junk = Credentials {
        ca: Pem::new("junk.pem", junk),
        ..good()
    };
    assert!(error(&junk).starts_with("junk.pem holds a certificate that cannot"));
    let other = Credentials {
        key: good().key,
        ..good()
    };
    let text = error(&other);
    assert!(
        text.contains("cert.pem") && text.contains("cert.key"),
        "{text}"
    );
}

#[test]
fn files_are_read_up_to_a_bound() {
    let dir = tempfile::tempdir().expect("a directory");
    let path = dir.path().join("huge.pem");
    let length = usize::try_from(PEM_BYTES_MAX).expect("fits") + 1;
    std::fs::write(&path, vec![b'\n'; length]).expect("writes");
    assert!(matches!(Pem::read(&path), Err(TlsError::TooLarge { .. })));
    std::fs::write(&path, vec![b'\n'; length - 1]).expect("writes");
    assert!(Pem::read(&path).is_ok());
}

/// Moves bytes between the two until nobody has anything to say.
fn shake(
    client: &mut ClientConnection,
    server: &mut ServerConnection,
) -> Result<(), rustls::Error> {
    for _ in 0..10 {
        let mut bytes = Vec::new();
        while client.wants_write() {
            client.write_tls(&mut bytes).expect("memory");
        }
        server.read_tls(&mut &bytes[..]).expect("memory");
        server.process_new_packets()?;
        bytes.clear();
        while server.wants_write() {
            server.write_tls(&mut bytes).expect("memory");
        }
        client.read_tls(&mut &bytes[..]).expect("memory");
        client.process_new_packets()?;
    }
    Ok(())
}

fn handshake(client: &Credentials, server: &Credentials) -> Result<AgentId, rustls::Error> {
    let name = ServerName::try_from("localhost").expect("valid");
    let client = client_config(client).expect("valid");
    let server = server_config(server).expect("valid");
    let mut client = ClientConnection::new(client, name)?;
    let mut server = ServerConnection::new(server)?;
    shake(&mut client, &mut server)?;
    assert_eq!(server.alpn_protocol(), Some(ALPN));
    assert_eq!(
        server.protocol_version(),
        Some(rustls::ProtocolVersion::TLSv1_3)
    );
    assert_eq!(client.tls13_tickets_received(), 0);
    let certificates = server.peer_certificates().expect("is demanded");
    Ok(agent_identity(&certificates[0]).expect("names an agent"))
}

#[test]
fn both_sides_must_be_of_the_authority() {
    let (ours, theirs) = (Authority::new(), Authority::new());
    let agent = ours.credentials(&[uri("tollgate://agent/edge-1")]);
    let collector = ours.credentials(&[dns("localhost")]);
    assert_eq!(
        handshake(&agent, &collector),
        Ok(AgentId::new("edge-1").expect("valid"))
    );
    // An agent of another authority, which trusts ours.
    let mut stranger = theirs.credentials(&[uri("tollgate://agent/edge-1")]);
    stranger.ca = Pem::new("ca.pem", &ours.pem());
    assert!(handshake(&stranger, &collector).is_err());
    // A collector of another authority, and one of ours under another name.
    let mut impostor = theirs.credentials(&[dns("localhost")]);
    impostor.ca = Pem::new("ca.pem", &ours.pem());
    assert!(handshake(&agent, &impostor).is_err());
    assert!(handshake(&agent, &ours.credentials(&[dns("elsewhere")])).is_err());
}
