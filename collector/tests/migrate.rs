//! An agent's host gets another address while its connection stands.

use crate::support::{Collector, Peer, Site, batch, series};
use tollgate_common::wire::Message;
use tollgate_common::{BatchHash, Incarnation};

const LIFE: Incarnation = Incarnation::from_bytes([1; 16]);

#[tokio::test(flavor = "multi_thread")]
async fn a_connection_goes_on_from_another_address() {
    let site = Site::new("settlement = \"1h\"");
    let collector = Collector::start(&site).await;
    let mut peer = Peer::connect(&collector, &site.agent("edge-1"))
        .await
        .expect("connects");
    peer.hello("edge-1", &[]).await;
    let mut parent = BatchHash::ZERO;
    // One stream all the way, and its dictionary with it: later batches only refer to the series.
    // An answer reaches the new address alone, because the socket of the old one is closed.
    for (number, address) in (1..).zip(["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.2"]) {
        peer.move_to(address);
        let next = batch(
            "edge-1",
            LIFE,
            number,
            parent,
            &[(series("acme", "eu"), 100), (series("acme", "us"), 7)],
        );
        parent = next.hash();
        peer.send(&Message::Batch(next)).await;
        assert_eq!(peer.ack_of(LIFE, number).await, number, "from {address}");
    }
    collector
        .until("/v1/usage?group=meter", |answer| {
            answer["items"][0]["units"] == "428"
        })
        .await;
    collector.stop().await;
}
