//! What agents and the collector say to each other, in one line for the trace.

use tollgate_common::Incarnation;
use tollgate_common::wire::Message;

/// One line for the trace.
pub fn brief(message: &Message) -> String {
    match message {
        Message::Hello(hello) => {
            let held = hello
                .held
                .iter()
                .map(|h| format!("{}:{}..{}", short(&h.incarnation), h.first, h.last));
            format!("hello [{}]", held.collect::<Vec<_>>().join(" "))
        }
        Message::Welcome(welcome) => {
            let resume = welcome
                .resume
                .iter()
                .map(|r| format!("{}:{}", short(&r.incarnation), r.durable));
            format!("welcome [{}]", resume.collect::<Vec<_>>().join(" "))
        }
        Message::Batch(batch) => format!(
            "batch {}:{} of {} rows{}",
            short(&batch.incarnation),
            batch.sequence,
            batch.rows.len(),
            if batch.is_final { ", final" } else { "" }
        ),
        Message::Tombstone(tombstone) => {
            format!(
                "tombstone {}:{}",
                short(&tombstone.incarnation),
                tombstone.sequence
            )
        }
        Message::Ack(ack) => {
            format!(
                "ack {}:{} ({})",
                short(&ack.incarnation),
                ack.durable,
                ack.releasable
            )
        }
        Message::Refuse(refuse) => format!("refuse {}: {}", refuse.code, refuse.reason),
        Message::Grant(grant) => {
            format!("grant {} for {} ms", grant.window_bytes, grant.pause_millis)
        }
    }
}

fn short(incarnation: &Incarnation) -> String {
    let mut name = incarnation.to_string();
    name.truncate(6);
    name
}
