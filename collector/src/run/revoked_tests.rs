use std::path::Path;

use rustls::pki_types::CertificateDer;
use tollgate_collector_core::config::Config;
use tollgate_common::{AgentId, Timestamp};

use super::super::Inputs;
use super::*;
use crate::pki::{self, Authority, CRL, Init, Validity};

/// A folder with an authority whose list names a spare certificate, a catalog, a configuration.
struct Site {
    dir: tempfile::TempDir,
    config: Config,
    /// The certificate that is in use.
    edge: CertificateDer<'static>,
}

impl Site {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let pki = dir.path().join("pki");
        pki::init(&Init {
            dir: pki.clone(),
            names: vec!["localhost".to_owned()],
            days: 1,
            force: false,
        })
        .expect("makes a PKI");
        issue(&pki, "spare-1");
        let edge = issue(&pki, "edge-1");
        revoke(&pki, "spare-1");
        let catalog = dir.path().join("catalog");
        std::fs::create_dir(&catalog).expect("creates");
        let meter =
            "[[meter]]\nname = \"m\"\nunit = \"{request}\"\nscale = 0\naggregation = \"sum\"\n";
        std::fs::write(catalog.join("meters.toml"), meter).expect("writes");
        let text = "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\n\
                    [tls]\nca = \"pki/ca.pem\"\ncertificate = \"pki/collector.pem\"\n\
                    key = \"pki/collector.key\"\ncrl = \"pki/crl.pem\"\n\n\
                    [[agent]]\nname = \"edge-*\"\ntenants = [\"acme\"]\nmeters = [\"*\"]\n";
        let config = Config::parse(text, &dir.path().join("c.toml")).expect("valid");
        Self { dir, config, edge }
    }

    fn pki(&self) -> std::path::PathBuf {
        self.dir.path().join("pki")
    }

    fn poll(&self, list: &mut RevokedList, inputs: &Inputs) -> Option<Change> {
        list.poll(&self.config.tls, &inputs.credentials)
    }

    fn admits(&self, gate: &ClientGate) -> bool {
        let now = crate::time::now();
        assert!(now > Timestamp::EPOCH);
        gate.admits(std::slice::from_ref(&self.edge), now).is_ok()
    }
}

fn issue(pki: &Path, name: &str) -> CertificateDer<'static> {
    let authority = Authority::load(pki).expect("loads");
    let agent = AgentId::new(name).expect("valid");
    let issued = authority.agent(&agent, Validity::days(1)).expect("signs");
    let path = pki.join(format!("{name}.pem"));
    std::fs::write(&path, issued.certificate).expect("writes");
    let pem = Pem::read(&path).expect("reads");
    pem.certificates().expect("certificates")[0].clone()
}

fn revoke(pki: &Path, name: &str) {
    pki::revoke(pki, Some(&AgentId::new(name).expect("valid")), None).expect("revokes");
}

#[test]
fn a_revocation_between_the_reading_and_the_first_look_is_seen() {
    let site = Site::new();
    let inputs = Inputs::read(&site.config).expect("right");
    assert!(site.admits(&inputs.gate));
    // The journal is replayed, which takes its time.
    revoke(&site.pki(), "edge-1");
    let mut list = RevokedList::new(inputs.crl);
    let Some(Change::Taken(gate, _)) = site.poll(&mut list, &inputs) else {
        panic!("the list has changed");
    };
    assert!(!site.admits(&gate));
    assert!(site.poll(&mut list, &inputs).is_none(), "only once");
}

#[test]
fn a_revocation_in_the_middle_of_an_exchange_of_certificates_is_seen() {
    let site = Site::new();
    let inputs = Inputs::read(&site.config).expect("right");
    let mut list = RevokedList::new(inputs.crl);
    assert!(site.poll(&mut list, &inputs).is_none());
    revoke(&site.pki(), "edge-1");
    // Key and certificate do not fit each other, and the authority's file is half written.
    std::fs::copy(site.pki().join("ca.key"), site.pki().join("collector.key")).expect("copies");
    std::fs::write(site.pki().join("ca.pem"), "-----BEGIN CERT").expect("writes");
    assert!(Inputs::read(&site.config).is_err());
    let Some(Change::Taken(gate, _)) = site.poll(&mut list, &inputs) else {
        panic!("the list has changed");
    };
    assert!(!site.admits(&gate));
}

#[test]
fn a_list_that_is_refused_is_told_once_and_tried_until_it_is_right() {
    let site = Site::new();
    let inputs = Inputs::read(&site.config).expect("right");
    let mut list = RevokedList::new(inputs.crl);
    let path = site.pki().join(CRL);
    let first = std::fs::read(&path).expect("reads");
    let mut refused = || match site.poll(&mut list, &inputs) {
        Some(Change::Refused { is_known, .. }) => is_known,
        Some(Change::Taken(..)) | None => panic!("no list"),
    };
    std::fs::write(&path, "no list").expect("writes");
    assert_eq!([refused(), refused(), refused()], [false, true, true]);
    std::fs::remove_file(&path).expect("removes");
    assert_eq!([refused(), refused()], [false, true]);
    std::fs::write(&path, first).expect("writes");
    revoke(&site.pki(), "edge-1");
    let Some(Change::Taken(gate, _)) = site.poll(&mut list, &inputs) else {
        panic!("the list is right again");
    };
    assert!(!site.admits(&gate));
    assert!(site.poll(&mut list, &inputs).is_none());
}
