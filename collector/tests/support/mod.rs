//! A site (folder, PKI, configuration), a collector on it, and peers that speak to it.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::sync::oneshot;
use tollgate_collector::pki::{self, Authority, Init, KeyedCertificate, Validity};
use tollgate_collector::run::RunError;
use tollgate_collector::serve::admin::{self, AdminRequest};
use tollgate_collector_core::config::Config;
use tollgate_common::tls::{Credentials, Pem};
use tollgate_common::wire::{
    Ack, Decoder, Encoder, Held, Hello, Message, Refuse, VERSION, Welcome,
};
use tollgate_common::{
    AgentId, Aggregation, Batch, BatchHash, BatchSeq, Dimensions, Incarnation, MeterName, Opening,
    Quantity, Rollup, Scale, SeriesKey, Span, TenantId, Timestamp, Total, Window, WindowWidth,
};

const PATIENCE: Duration = Duration::from_mins(1);

/// A folder with everything that a collector needs.
pub(crate) struct Site {
    dir: tempfile::TempDir,
}

impl Site {
    /// A site; `fold` are lines for the `[fold]` section.
    pub(crate) fn new(fold: &str) -> Self {
        let dir = tempfile::tempdir().expect("temporary folder");
        let site = Self { dir };
        let names = vec!["localhost".to_owned()];
        pki::init(&Init {
            dir: site.pki(),
            names,
            days: 1,
            force: false,
        })
        .expect("makes a PKI");
        let catalog = site.dir.path().join("catalog");
        for (name, text) in [
            (
                "meters.toml",
                "[[meter]]\nname = \"http.requests\"\nunit = \"{request}\"\nscale = 0\naggregation = \"sum\"\n",
            ),
            (
                "cards/edge.toml",
                "id = \"edge\"\ncurrency = \"EUR\"\nfrom = \"2026-01-01\"\norder = \"standard/1\"\n\n[[price]]\nid = \"requests\"\n\
                 meter = \"http.requests\"\nmodel = \"per_unit\"\nper = \"100 {request}\"\nunit = \"0.50\"\n",
            ),
            (
                "profiles/acme.toml",
                "tenant = \"acme\"\ncard = \"edge\"\nzone = \"UTC\"\nperiod = { every = \"P1M\", anchor = \"2026-01-01\" }\n",
            ),
        ] {
            let path = catalog.join(name);
            std::fs::create_dir_all(path.parent().expect("has a parent")).expect("creates");
            std::fs::write(path, text).expect("writes");
        }
        let config = format!(
            "data_dir = \"data\"\nlisten = \"127.0.0.1:0\"\nhttp = \"127.0.0.1:0\"\n\n[tls]\nca = \"pki/ca.pem\"\n\
             certificate = \"pki/collector.pem\"\nkey = \"pki/collector.key\"\n\n[fold]\npartitions = 3\n{fold}\n\n\
             [[agent]]\nname = \"edge-*\"\ntenants = [\"acme\"]\nmeters = [\"*\"]\n"
        );
        std::fs::write(site.config(), config).expect("writes");
        site
    }

    /// The folder.
    pub(crate) fn dir(&self) -> &Path {
        self.dir.path()
    }

    pub(crate) fn config(&self) -> PathBuf {
        self.dir.path().join("tollgate-collector.toml")
    }

    pub(crate) fn pki(&self) -> PathBuf {
        self.dir.path().join("pki")
    }

    pub(crate) fn data(&self) -> PathBuf {
        self.dir.path().join("data")
    }

    /// The authority's certificate.
    pub(crate) fn ca(&self) -> String {
        std::fs::read_to_string(self.pki().join("ca.pem")).expect("reads")
    }

    /// A fresh certificate for an agent, and the authority to trust.
    pub(crate) fn agent(&self, name: &str) -> (String, KeyedCertificate) {
        let authority = Authority::load(&self.pki()).expect("loads");
        let agent = AgentId::new(name).expect("valid");
        (
            self.ca(),
            authority.agent(&agent, Validity::days(1)).expect("signs"),
        )
    }

    /// Runs the collector's binary on this site; exit code and standard output.
    pub(crate) fn cli(&self, args: &[&str]) -> (i32, String) {
        let (code, out, _) = self.cli_with_errors(args);
        (code, out)
    }

    /// As [`Site::cli`], with what stands on standard error.
    pub(crate) fn cli_with_errors(&self, args: &[&str]) -> (i32, String, String) {
        let output = std::process::Command::new(env!("CARGO_BIN_EXE_tollgate-collector"))
            .args(args)
            .env_clear()
            .env("TOLLGATE_COLLECTOR_CONFIG", self.config())
            .output()
            .expect("runs");
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let errors = text(&output.stderr);
        if !errors.is_empty() {
            tracing::info!(?args, %errors, "the collector complains");
        }
        (
            output.status.code().expect("an exit code"),
            text(&output.stdout),
            errors,
        )
    }
}

/// A collector that runs in this process.
pub(crate) struct Collector {
    listen: SocketAddr,
    http: SocketAddr,
    stop: oneshot::Sender<()>,
    task: tokio::task::JoinHandle<Result<(), RunError>>,
}

impl Collector {
    /// Starts a collector and waits until it is ready.
    pub(crate) async fn start(site: &Site) -> Self {
        let file = site.config();
        let text = std::fs::read_to_string(&file).expect("reads");
        let config = Config::parse(&text, &file).expect("valid");
        let socket = config.admin_socket.clone();
        let (stop, stopped) = oneshot::channel();
        let mut task = tokio::spawn(tollgate_collector::run(config, async {
            let _ = stopped.await;
        }));
        let until = Instant::now() + PATIENCE;
        loop {
            if let Ok(status) = admin::ask(Path::new(&socket), &AdminRequest::Status).await
                && status["ready"] == true
            {
                let address = |key: &str| {
                    status[key]
                        .as_str()
                        .and_then(|text| text.parse().ok())
                        .expect("an address")
                };
                return Self {
                    listen: address("listen"),
                    http: address("http"),
                    stop,
                    task,
                };
            }
            assert!(Instant::now() < until, "not ready in time");
            tokio::select! {
                ended = &mut task => panic!("the collector ended: {ended:?}"),
                () = tokio::time::sleep(Duration::from_millis(20)) => {}
            }
        }
    }

    pub(crate) fn listen(&self) -> SocketAddr {
        self.listen
    }

    /// Stops it cleanly.
    pub(crate) async fn stop(self) {
        self.stop.send(()).expect("it runs");
        self.task.await.expect("no panic").expect("a clean end");
    }

    async fn fetch(&self, path: &str) -> String {
        let mut stream = tokio::net::TcpStream::connect(self.http)
            .await
            .expect("connects");
        let request = format!("GET {path} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.expect("sends");
        let mut text = String::new();
        stream.read_to_string(&mut text).await.expect("answers");
        assert!(text.starts_with("HTTP/1.1 200"), "{path}: {text}");
        text.split_once("\r\n\r\n").expect("a body").1.to_owned()
    }

    /// A page as JSON.
    pub(crate) async fn get(&self, path: &str) -> Value {
        serde_json::from_str(&self.fetch(path).await).expect("JSON")
    }

    /// Asks until the answer is as wished.
    pub(crate) async fn until(&self, path: &str, wish: impl Fn(&Value) -> bool) -> Value {
        let until = Instant::now() + PATIENCE;
        loop {
            let answer = self.get(path).await;
            if wish(&answer) {
                return answer;
            }
            assert!(Instant::now() < until, "{path} stays {answer:#}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Waits until a metric has reached a value.
    pub(crate) async fn until_metric(&self, name: &str, value: u64) {
        let until = Instant::now() + PATIENCE;
        loop {
            let text = self.fetch("/metrics").await;
            let line = text
                .lines()
                .find_map(|line| line.strip_prefix(&format!("tollgate_collector_{name} ")));
            let found: u64 = line
                .and_then(|value| value.parse().ok())
                .unwrap_or_else(|| panic!("no {name} in\n{text}"));
            if found >= value {
                return;
            }
            assert!(Instant::now() < until, "{name} stays at {found}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }
}

/// One connection to the collector.
pub(crate) struct Peer {
    endpoint: quinn::Endpoint,
    connection: quinn::Connection,
    send: quinn::SendStream,
    receive: quinn::RecvStream,
    encoder: Encoder,
    decoder: Decoder,
}

impl Peer {
    pub(crate) async fn connect(
        collector: &Collector,
        agent: &(String, KeyedCertificate),
    ) -> Result<Self, String> {
        Self::connect_with(collector, agent.0.clone(), Some(&agent.1)).await
    }

    /// Connects with these credentials, or with none.
    pub(crate) async fn connect_with(
        collector: &Collector,
        ca: String,
        credentials: Option<&KeyedCertificate>,
    ) -> Result<Self, String> {
        let ca = Pem::new("ca", &ca);
        let tls = match credentials {
            Some(keyed) => tollgate_common::tls::client_config(&Credentials {
                ca,
                certificate: Pem::new("certificate", &keyed.certificate),
                key: Pem::new("key", &keyed.key),
            })
            .map_err(|error| error.to_string())?,
            None => anonymous(&ca),
        };
        let crypto = quinn::crypto::rustls::QuicClientConfig::try_from(tls)
            .map_err(|error| error.to_string())?;
        let mut endpoint =
            quinn::Endpoint::client("127.0.0.1:0".parse().expect("an address")).expect("binds");
        endpoint.set_default_client_config(quinn::ClientConfig::new(Arc::new(crypto)));
        let connecting = endpoint
            .connect(collector.listen, "localhost")
            .map_err(|error| error.to_string())?;
        let connection = connecting.await.map_err(|error| error.to_string())?;
        let (send, receive) = connection
            .open_bi()
            .await
            .map_err(|error| error.to_string())?;
        let (encoder, decoder) = (Encoder::new(1), Decoder::new());
        Ok(Self {
            endpoint,
            connection,
            send,
            receive,
            encoder,
            decoder,
        })
    }

    /// The address from which the collector hears this peer from now on.
    pub(crate) fn move_to(&self, address: &str) {
        let socket = std::net::UdpSocket::bind((address, 0)).expect("a loopback address");
        self.endpoint.rebind(socket).expect("rebinds");
    }

    pub(crate) async fn send(&mut self, message: &Message) {
        let mut bytes = Vec::new();
        self.encoder.encode(message, &mut bytes).expect("encodes");
        self.send_bytes(&bytes).await;
    }

    pub(crate) async fn send_bytes(&mut self, bytes: &[u8]) {
        // The collector may have ended the connection already.
        let _ = self.send.write_all(bytes).await;
    }

    async fn next(&mut self) -> Result<Message, String> {
        loop {
            if let Some(message) = self.decoder.next().map_err(|error| error.to_string())? {
                return Ok(message);
            }
            let chunk = tokio::time::timeout(PATIENCE, self.receive.read_chunk(65_536, true));
            let chunk = chunk
                .await
                .map_err(|error| error.to_string())?
                .map_err(|error| error.to_string())?;
            self.decoder
                .push(&chunk.ok_or("the collector ended the stream")?.bytes);
        }
    }

    /// Says hello, holding these batches of one incarnation.
    async fn say_hello(&mut self, name: &str, batches: &[Batch]) -> Result<Message, String> {
        let held = batches
            .first()
            .zip(batches.last())
            .map(|(first, last)| Held {
                incarnation: first.incarnation,
                first: first.sequence,
                first_parent: first.parent_hash,
                last: last.sequence,
                last_hash: last.hash(),
            });
        let hello = Hello {
            version_min: VERSION,
            version_max: VERSION,
            agent: AgentId::new(name).expect("valid"),
            now: tollgate_collector::time::now(),
            held: held.into_iter().collect(),
        };
        self.send(&Message::Hello(hello)).await;
        self.next().await
    }

    pub(crate) async fn hello(&mut self, name: &str, batches: &[Batch]) -> Welcome {
        match self.say_hello(name, batches).await {
            Ok(Message::Welcome(welcome)) => welcome,
            other => panic!("no welcome: {other:?}"),
        }
    }

    pub(crate) async fn try_hello(&mut self, name: &str) -> Result<Message, String> {
        self.say_hello(name, &[]).await
    }

    pub(crate) async fn refusal_of_hello(&mut self, name: &str) -> Refuse {
        match self.say_hello(name, &[]).await {
            Ok(Message::Refuse(refusal)) => refusal,
            other => panic!("no refusal: {other:?}"),
        }
    }

    /// Waits for an acknowledgement up to `sequence`; returns its number.
    pub(crate) async fn ack_of(&mut self, of: Incarnation, sequence: u64) -> u64 {
        loop {
            match self.next().await {
                Ok(Message::Ack(Ack {
                    incarnation,
                    durable,
                    ..
                })) if incarnation == of => {
                    if durable >= sequence {
                        return durable;
                    }
                }
                other => panic!("no acknowledgement: {other:?}"),
            }
        }
    }

    /// True if the collector ends the connection in time.
    pub(crate) async fn is_ended_within(&mut self, time: Duration) -> bool {
        tokio::time::timeout(time, self.connection.closed())
            .await
            .is_ok()
    }
}

/// A client that shows no certificate.
fn anonymous(ca: &Pem) -> Arc<rustls::ClientConfig> {
    let mut roots = rustls::RootCertStore::empty();
    for certificate in ca.certificates().expect("valid") {
        roots.add(certificate).expect("valid");
    }
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut config = rustls::ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[&rustls::version::TLS13])
        .expect("TLS 1.3")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.alpn_protocols = vec![tollgate_common::wire::ALPN.to_vec()];
    Arc::new(config)
}

pub(crate) fn series(tenant: &str, region: &str) -> Arc<SeriesKey> {
    let series = SeriesKey::new(
        TenantId::new(tenant).expect("valid"),
        MeterName::new("http.requests").expect("valid"),
        Dimensions::new([("region", region)]).expect("valid"),
    );
    Arc::new(series.expect("short"))
}

/// A batch of 2026-06-15, whose totals are `number` times its rows.
pub(crate) fn batch(
    agent: &str,
    incarnation: Incarnation,
    number: u64,
    parent_hash: BatchHash,
    rows: &[(Arc<SeriesKey>, i128)],
) -> Batch {
    let start = Timestamp::from_secs(1_781_481_600 + 10 * i64::try_from(number).expect("small"));
    let window =
        Window::starting(start, WindowWidth::from_secs(10).expect("divides")).expect("aligned");
    let mut totals: Vec<Total> = Vec::new();
    for (series, value) in rows {
        let quantity = Quantity::new(value * i128::from(number));
        match totals
            .iter_mut()
            .find(|total| total.tenant == *series.tenant())
        {
            Some(total) => total.quantity = total.quantity.checked_add(quantity).expect("small"),
            None => totals.push(Total {
                tenant: series.tenant().clone(),
                meter: series.meter().clone(),
                scale: Scale::ZERO,
                quantity,
            }),
        }
    }
    let rollup = |(series, value): &(Arc<SeriesKey>, i128)| Rollup {
        series: Arc::clone(series),
        aggregation: Aggregation::Sum,
        scale: Scale::ZERO,
        window,
        value: Quantity::new(*value),
        events: 1,
        detail: tollgate_common::Detail::None,
    };
    let batch = Batch {
        agent: AgentId::new(agent).expect("valid"),
        incarnation,
        sequence: BatchSeq::new(number).expect("not zero"),
        parent_hash,
        span: Span {
            from: window.start(),
            to: window.end(),
        },
        watermark: window.end(),
        opening: (number == 1).then_some(Opening { parent: None }),
        is_final: false,
        rows: rows.iter().map(rollup).collect(),
        totals,
        losses: Vec::new(),
        steps: Vec::new(),
    };
    batch.validate().expect("a valid batch");
    batch
}

/// Reports 107 requests of June in each of these batches of one life of `edge-1`; the hash of the last.
pub(crate) async fn report(
    collector: &Collector,
    site: &Site,
    mut parent: BatchHash,
    numbers: std::ops::RangeInclusive<u64>,
) -> BatchHash {
    let life = Incarnation::from_bytes([1; 16]);
    let mut peer = Peer::connect(collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &[]).await;
    let last = *numbers.end();
    for number in numbers {
        let rows = [(series("acme", "eu"), 100), (series("acme", "us"), 7)];
        let next = batch("edge-1", life, number, parent, &rows);
        parent = next.hash();
        peer.send(&Message::Batch(next)).await;
    }
    assert_eq!(peer.ack_of(life, last).await, last);
    parent
}

/// A running collector that has billed 321 requests of June at 0.50 per 100; `fold` are lines for
/// the `[fold]` section.
pub(crate) async fn billed(fold: &str) -> (Site, Collector) {
    let site = Site::new(fold);
    let collector = Collector::start(&site).await;
    report(&collector, &site, BatchHash::ZERO, 1..=3).await;
    collector
        .until("/v1/ledger", |answer| !answer["items"][0].is_null())
        .await;
    (site, collector)
}
