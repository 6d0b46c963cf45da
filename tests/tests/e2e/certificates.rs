//! Who may report: no certificate, another CA, an expired one, another's tenants.

use std::fs;
use std::time::Duration;

use tollgate_agent::admin::protocol::Count;
use tollgate_collector::pki::{self, Authority, Validity};
use tollgate_common::AgentId;

use crate::support::{Node, World};

fn count(world: &World, agent: &str, customer: &str, value: &str) {
    let mut client = world.admin(agent).expect("the agent answers");
    client
        .count(Count {
            metric: "requests".to_owned(),
            value: value.to_owned(),
            tags: [("customer".to_owned(), customer.to_owned())].into(),
        })
        .expect("the agent counts");
}

fn replace_certificate(
    world: &World,
    agent: &str,
    authority: &Authority,
    name: &str,
    validity: Validity,
) {
    let issued = authority
        .agent(&AgentId::new(name).expect("valid"), validity)
        .expect("a certificate");
    fs::write(world.path(&format!("pki/{agent}.pem")), issued.certificate)
        .expect("a writable folder");
    fs::write(world.path(&format!("pki/{agent}.key")), issued.key).expect("a writable folder");
}

/// A good agent and a bad one share a collector; the bad one is refused, logged with the
/// reason, nothing of it is booked, and the good one is undisturbed.
fn refused(prepare: impl FnOnce(&World), reasons: &[&str]) {
    let world = World::new(&[("good-1", &["acme"]), ("bad-1", &["globex"])]);
    prepare(&world);
    let collector = world.start_collector();
    let good = world.start_agent("good-1");
    let mut bad = world.spawn_agent("bad-1");
    world.wait("the bad agent runs or ends", || {
        world.admin("bad-1").is_some() || !bad.is_running()
    });
    if bad.is_running() {
        count(&world, "bad-1", "globex", "1000");
    }
    count(&world, "good-1", "acme", "5");
    world.wait("the refusal is logged with its reason", || {
        let log = world.log("collector");
        log.lines()
            .any(|line| reasons.iter().any(|reason| line.contains(reason)))
    });
    std::thread::sleep(Duration::from_secs(2));
    good.stop();
    world.wait_settled();
    let billed = world.billed();
    assert_eq!(
        billed.get(&("acme".to_owned(), "requests".to_owned())),
        Some(&5)
    );
    assert_eq!(
        billed.len(),
        1,
        "only the good agent's usage is booked: {billed:?}"
    );
    let agents = world.items("/v1/agents");
    assert!(
        agents.iter().all(|agent| agent["agent"] == "good-1"),
        "{agents:?}"
    );
    drop(bad);
    collector.stop();
    world.assert_verified();
}

#[test]
fn a_certificate_of_another_ca_is_refused() {
    refused(
        |world| {
            let other = Authority::generate(Validity::days(1)).expect("a new authority");
            replace_certificate(world, "bad-1", &other, "bad-1", Validity::days(1));
        },
        &[
            "UnknownIssuer",
            "unknown issuer",
            "unknown CA",
            "BadSignature",
        ],
    );
}

#[test]
fn an_expired_certificate_is_refused() {
    refused(
        |world| {
            let authority = Authority::load(&world.path("pki")).expect("the test's own authority");
            replace_certificate(world, "bad-1", &authority, "bad-1", Validity::expired());
        },
        &["Expired", "expired"],
    );
}

#[test]
fn a_certificate_of_an_unknown_agent_is_refused() {
    refused(
        |world| {
            let authority = Authority::load(&world.path("pki")).expect("the test's own authority");
            replace_certificate(world, "bad-1", &authority, "stranger-1", Validity::days(1));
            let config = fs::read_to_string(world.path("bad-1.toml")).expect("written before");
            let config = config.replace("agent = \"bad-1\"", "agent = \"stranger-1\"");
            world.write("bad-1.toml", &config);
        },
        &["stranger-1"],
    );
}

/// A TLS handshake without any client certificate.
#[tokio::test]
async fn a_client_without_a_certificate_is_refused() {
    let world = World::new(&[("good-1", &["acme"])]);
    let collector = world.start_collector();
    let mut roots = rustls::RootCertStore::empty();
    let ca = fs::read(world.path("pki/ca.pem")).expect("the test's own authority");
    let ca =
        <rustls::pki_types::CertificateDer as rustls::pki_types::pem::PemObject>::from_pem_slice(
            &ca,
        )
        .expect("a certificate");
    roots.add(ca).expect("a certificate");
    let provider = std::sync::Arc::new(rustls::crypto::ring::default_provider());
    let mut tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("ring speaks TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    tls.alpn_protocols = vec![tollgate_common::wire::ALPN.to_vec()];
    let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls).expect("TLS 1.3");
    let mut endpoint =
        quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("a socket");
    endpoint.set_default_client_config(quinn::ClientConfig::new(std::sync::Arc::new(crypto)));
    let connecting = endpoint
        .connect(world.listen, "localhost")
        .expect("a good configuration");
    // In TLS 1.3 the client may see a finished handshake before the server refuses.
    if let Ok(connection) = connecting.await {
        let closed = tokio::time::timeout(Duration::from_mins(1), connection.closed()).await;
        assert!(
            closed.is_ok(),
            "the collector kept a connection without a certificate"
        );
    }
    world.wait("the refusal is logged", || {
        let log = world.log("collector");
        log.contains("NoCertificatesPresented")
            || log.contains("no certificates")
            || log.contains("peer sent no certificates")
    });
    assert!(world.items("/v1/agents").is_empty());
    collector.stop();
}

#[test]
fn rows_for_another_agents_tenants_are_refused_and_block_nothing() {
    let world = World::new(&[("edge-1", &["acme"]), ("edge-2", &["globex"])]);
    let collector = world.start_collector();
    let (one, two) = (world.start_agent("edge-1"), world.start_agent("edge-2"));
    count(&world, "edge-1", "acme", "7");
    count(&world, "edge-1", "globex", "1000");
    count(&world, "edge-2", "globex", "11");
    one.stop();
    two.stop();
    world.wait_settled();
    let billed = world.billed();
    assert_eq!(
        billed.get(&("acme".to_owned(), "requests".to_owned())),
        Some(&7)
    );
    assert_eq!(
        billed.get(&("globex".to_owned(), "requests".to_owned())),
        Some(&11)
    );
    let refused: i128 = world
        .items("/v1/conservation")
        .iter()
        .filter(|account| account["tenant"] == "globex")
        .filter_map(|account| {
            account["refused"]
                .as_str()
                .and_then(|text| text.parse::<i128>().ok())
        })
        .sum();
    assert_eq!(refused, 1000);
    let reasons: Vec<_> = world
        .items("/v1/usage")
        .into_iter()
        .map(|row| row["refused"].clone())
        .collect();
    assert!(
        reasons.iter().any(|reason| reason == "tenant_not_allowed"),
        "{reasons:?}"
    );
    collector.stop();
    world.assert_verified();
}

/// Overwriting keys by accident would lock out every agent.
#[test]
fn a_second_pki_init_overwrites_nothing() {
    let world = World::new(&[("edge-1", &["acme"])]);
    let init = pki::Init {
        dir: world.path("pki"),
        names: vec!["localhost".to_owned()],
        days: 1,
        force: false,
    };
    assert!(pki::init(&init).is_err());
}

/// A connection does not outlive the certificate that it was made with; a renewed one is
/// taken without a restart, and nothing is lost or doubled in between.
#[test]
fn a_live_connection_ends_with_its_certificate_and_a_renewed_one_goes_on() {
    let world = World::new(&[("edge-1", &["acme"])]);
    let authority = Authority::load(&world.path("pki")).expect("the test's own authority");
    let now = std::time::SystemTime::now();
    let short = Validity {
        not_before: now - Duration::from_mins(1),
        not_after: now + Duration::from_secs(8),
    };
    replace_certificate(&world, "edge-1", &authority, "edge-1", short);
    let collector = world.start_collector();
    let agent = world.start_agent("edge-1");
    count(&world, "edge-1", "acme", "5");
    world.wait("the connection ends with the certificate", || {
        world.log("collector").contains("certificate has expired")
    });
    count(&world, "edge-1", "acme", "6");
    replace_certificate(&world, "edge-1", &authority, "edge-1", Validity::days(1));
    world.wait("the renewed certificate is taken", || {
        let billed = world.billed();
        billed.get(&("acme".to_owned(), "requests".to_owned())) == Some(&11)
    });
    agent.stop();
    world.wait_settled();
    collector.stop();
    world.assert_verified();
}

/// An agent that is connected, and whose certificate or place in the policy is then taken away: its
/// connection ends, it is not let in again, and what it counted since is not booked. Once it
/// is let in again nothing is lost.
///
/// `ended` is what the collector's line says of the live connection that it ends, and no line
/// besides; `refused` what one says of an attempt to connect.
fn shut_out(
    take_away: impl FnOnce(&World, &Node),
    (ended, refused): ([&str; 2], [&str; 2]),
    give_back: impl FnOnce(&World, &Node),
) {
    let world = World::new(&[("edge-1", &["acme"]), ("edge-2", &["globex"])]);
    let config = fs::read_to_string(world.path("collector.toml")).expect("written before");
    let authority = pki::revoke(&world.path("pki"), None, Some(&spare(&world)));
    authority.expect("an empty list but for a spare certificate");
    let key = "key = \"pki/collector.key\"";
    assert!(config.contains(key), "{config}");
    world.write(
        "collector.toml",
        &config.replace(key, &format!("{key}\ncrl = \"pki/crl.pem\"")),
    );
    let collector = world.start_collector();
    let (one, two) = (world.start_agent("edge-1"), world.start_agent("edge-2"));
    let billed = |tenant: &str| {
        let billed = world.billed();
        billed
            .get(&(tenant.to_owned(), "requests".to_owned()))
            .copied()
    };
    count(&world, "edge-1", "acme", "5");
    world.wait("the agent is connected and heard", || {
        world
            .items("/v1/agents")
            .iter()
            .any(|agent| agent["agent"] == "edge-1")
    });
    let logged = |parts: [&str; 2]| {
        let log = world.log("collector");
        let all = |line: &&str| parts.iter().all(|part| line.contains(part));
        log.lines().filter(all).count()
    };
    assert_eq!(logged(ended), 0);
    take_away(&world, &collector);
    // The agent lives: nobody but the collector ends its connection.
    world.wait("the live connection ends", || logged(ended) >= 1);
    // An agent that was refused waits for up to a minute; a fresh one tries at once.
    one.kill();
    let before = logged(refused);
    let one = world.start_agent("edge-1");
    world.wait("no new connection is made", || logged(refused) > before);
    count(&world, "edge-1", "acme", "6");
    count(&world, "edge-2", "globex", "7");
    world.wait("the other agent is undisturbed", || {
        billed("globex") == Some(7)
    });
    assert!(billed("acme") <= Some(5), "{:?}", billed("acme"));
    give_back(&world, &collector);
    one.kill();
    let one = world.start_agent("edge-1");
    world.wait("what was counted meanwhile comes", || {
        billed("acme") == Some(11)
    });
    one.stop();
    two.stop();
    world.wait_settled();
    collector.stop();
    world.assert_verified();
}

/// A certificate that nobody uses.
fn spare(world: &World) -> std::path::PathBuf {
    let authority = Authority::load(&world.path("pki")).expect("the test's own authority");
    let agent = AgentId::new("spare-1").expect("valid");
    let issued = authority.agent(&agent, Validity::days(1)).expect("issued");
    world.write("spare.pem", &issued.certificate);
    world.path("spare.pem")
}

#[test]
fn a_revoked_certificate_ends_its_connection_and_a_new_one_goes_on() {
    let edge = AgentId::new("edge-1").expect("valid");
    shut_out(
        |world, _| {
            // The collector looks at the list by itself.
            let done = pki::revoke(&world.path("pki"), Some(&edge), None).expect("revokes");
            assert_eq!(done.revoked, 2);
            let again = pki::revoke(&world.path("pki"), Some(&edge), None).expect("once more");
            assert_eq!((again.revoked, again.serial), (2, done.serial));
        },
        (
            ["connection ended", "is not admitted any more"],
            ["connection refused", "evoked"],
        ),
        |world, _| {
            let authority = Authority::load(&world.path("pki")).expect("the test's own authority");
            replace_certificate(world, "edge-1", &authority, "edge-1", Validity::days(1));
        },
    );
}

fn reloaded(world: &World, times: usize) {
    world.wait("the configuration is read again", || {
        world.log("collector").matches("reloaded").count() >= times
    });
}

#[test]
fn an_agent_that_the_policy_forgets_is_disconnected_by_the_reload() {
    let kept = std::cell::RefCell::new(String::new());
    shut_out(
        |world, collector| {
            let config = fs::read_to_string(world.path("collector.toml")).expect("written before");
            let changed = config.replace("name = \"edge-1\"", "name = \"edge-9\"");
            assert_ne!(config, changed);
            world.write("collector.toml", &changed);
            kept.replace(config);
            collector.hang_up();
            reloaded(world, 1);
        },
        (
            ["connection ended", "is not known here"],
            ["connection ended", "is not known here"],
        ),
        |world, collector| {
            world.write("collector.toml", &kept.borrow());
            collector.hang_up();
            reloaded(world, 2);
        },
    );
}
