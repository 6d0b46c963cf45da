//! The messages that are not batches.

use rkyv::vec::ArchivedVec;

use super::archive::{
    self, AckV1, ArchivedAckV1, ArchivedGrantV2, ArchivedHeldV1, ArchivedHelloV1, ArchivedRefuseV1,
    ArchivedResumeV1, ArchivedWelcomeV1, GrantV2, HeldV1, HelloV1, RefuseV1, ResumeV1, WelcomeV1,
};
use super::head::{put_time, read_agent, read_sequence, read_time};
use super::{
    Ack, DecodeError, EncodeError, Grant, Held, Hello, Refuse, RefuseCode, Resume, Welcome,
};
use crate::batch::BatchHash;
use crate::ids::{Incarnation, Lineage};
use crate::limits::{HELD_INCARNATIONS_MAX, REFUSE_REASON_BYTES_MAX};

fn bounded(what: &'static str, length: usize) -> Result<(), EncodeError> {
    if length > HELD_INCARNATIONS_MAX {
        return Err(EncodeError::TooLong {
            what,
            length,
            max: HELD_INCARNATIONS_MAX,
        });
    }
    Ok(())
}

/// Reads a list of flat rows after its length has been checked.
fn read_list<A, T>(
    what: &'static str,
    list: &ArchivedVec<A>,
    read: impl Fn(&A) -> Result<T, DecodeError>,
) -> Result<Vec<T>, DecodeError> {
    if list.len() > HELD_INCARNATIONS_MAX {
        return Err(DecodeError::TooMany {
            what,
            count: list.len(),
            max: HELD_INCARNATIONS_MAX,
        });
    }
    list.iter().map(read).collect()
}

pub(super) fn encode_hello(hello: &Hello, raw: &mut Vec<u8>) -> Result<(), EncodeError> {
    bounded("incarnations of the hello", hello.held.len())?;
    if hello.version_min == 0 || hello.version_min > hello.version_max {
        return Err(EncodeError::Range { what: "versions" });
    }
    let held = |held: &Held| HeldV1 {
        incarnation: *held.incarnation.as_bytes(),
        first: held.first.get(),
        first_parent: *held.first_parent.as_bytes(),
        last: held.last.get(),
        last_hash: *held.last_hash.as_bytes(),
    };
    if hello.held.iter().any(|held| held.last < held.first) {
        return Err(EncodeError::Range {
            what: "held batches",
        });
    }
    let hello = HelloV1 {
        version_min: hello.version_min,
        version_max: hello.version_max,
        agent: hello.agent.as_str().as_bytes().to_vec(),
        now: put_time(hello.now),
        held: hello.held.iter().map(held).collect(),
    };
    archive::write(&hello, raw)
}

pub(super) fn decode_hello(raw: &[u8]) -> Result<Hello, DecodeError> {
    let hello: &ArchivedHelloV1 = archive::access("hello", raw)?;
    let held = |held: &ArchivedHeldV1| {
        let (first, last) = (
            read_sequence(held.first.to_native())?,
            read_sequence(held.last.to_native())?,
        );
        if last < first {
            return Err(DecodeError::Range("held batches of the hello"));
        }
        Ok(Held {
            incarnation: Incarnation::from_bytes(held.incarnation),
            first,
            first_parent: BatchHash::from_bytes(held.first_parent),
            last,
            last_hash: BatchHash::from_bytes(held.last_hash),
        })
    };
    // Whether the versions make sense is for the negotiation to say, so that the refusal
    // reaches the peer as a message.
    Ok(Hello {
        version_min: hello.version_min,
        version_max: hello.version_max,
        agent: read_agent(&hello.agent)?,
        now: read_time(hello.now.to_native(), "clock of the hello")?,
        held: read_list("incarnations of the hello", &hello.held, held)?,
    })
}

pub(super) fn encode_welcome(welcome: &Welcome, raw: &mut Vec<u8>) -> Result<(), EncodeError> {
    bounded("incarnations of the welcome", welcome.resume.len())?;
    if welcome.window_batches == 0 {
        return Err(EncodeError::Range {
            what: "window of batches",
        });
    }
    let resume = |resume: &Resume| ResumeV1 {
        incarnation: *resume.incarnation.as_bytes(),
        durable: resume.durable,
        durable_hash: *resume.durable_hash.as_bytes(),
        releasable: resume.releasable,
    };
    let welcome = WelcomeV1 {
        version: welcome.version,
        lineage: *welcome.lineage.as_bytes(),
        now: put_time(welcome.now),
        window_batches: welcome.window_batches,
        window_bytes: welcome.window_bytes,
        resume: welcome.resume.iter().map(resume).collect(),
    };
    archive::write(&welcome, raw)
}

pub(super) fn decode_welcome(raw: &[u8]) -> Result<Welcome, DecodeError> {
    let welcome: &ArchivedWelcomeV1 = archive::access("welcome", raw)?;
    if welcome.window_batches.to_native() == 0 {
        return Err(DecodeError::Range("window of batches of the welcome"));
    }
    let resume = |resume: &ArchivedResumeV1| {
        Ok(Resume {
            incarnation: Incarnation::from_bytes(resume.incarnation),
            durable: resume.durable.to_native(),
            durable_hash: BatchHash::from_bytes(resume.durable_hash),
            releasable: resume.releasable.to_native(),
        })
    };
    Ok(Welcome {
        version: welcome.version,
        lineage: Lineage::from_bytes(welcome.lineage),
        now: read_time(welcome.now.to_native(), "clock of the welcome")?,
        resume: read_list("incarnations of the welcome", &welcome.resume, resume)?,
        window_batches: welcome.window_batches.to_native(),
        window_bytes: welcome.window_bytes.to_native(),
    })
}

pub(super) fn encode_ack(ack: &Ack, raw: &mut Vec<u8>) -> Result<(), EncodeError> {
    let ack = AckV1 {
        incarnation: *ack.incarnation.as_bytes(),
        durable: ack.durable,
        releasable: ack.releasable,
    };
    archive::write(&ack, raw)
}

pub(super) fn decode_ack(raw: &[u8]) -> Result<Ack, DecodeError> {
    let ack: &ArchivedAckV1 = archive::access("ack", raw)?;
    Ok(Ack {
        incarnation: Incarnation::from_bytes(ack.incarnation),
        durable: ack.durable.to_native(),
        releasable: ack.releasable.to_native(),
    })
}

pub(super) fn encode_grant(grant: &Grant, raw: &mut Vec<u8>) -> Result<(), EncodeError> {
    if grant.window_batches == 0 {
        return Err(EncodeError::Range {
            what: "window of batches",
        });
    }
    let grant = GrantV2 {
        window_batches: grant.window_batches,
        window_bytes: grant.window_bytes,
        pause_millis: grant.pause_millis,
    };
    archive::write(&grant, raw)
}

pub(super) fn decode_grant(raw: &[u8]) -> Result<Grant, DecodeError> {
    let grant: &ArchivedGrantV2 = archive::access("grant", raw)?;
    if grant.window_batches.to_native() == 0 {
        return Err(DecodeError::Range("window of batches of the grant"));
    }
    Ok(Grant {
        window_batches: grant.window_batches.to_native(),
        window_bytes: grant.window_bytes.to_native(),
        pause_millis: grant.pause_millis.to_native(),
    })
}

pub(super) fn encode_refuse(refuse: &Refuse, raw: &mut Vec<u8>) -> Result<(), EncodeError> {
    let end = refuse.reason.floor_char_boundary(REFUSE_REASON_BYTES_MAX);
    let refuse = RefuseV1 {
        code: refuse.code.code(),
        reason: refuse.reason.as_bytes()[..end].to_vec(),
    };
    archive::write(&refuse, raw)
}

pub(super) fn decode_refuse(raw: &[u8]) -> Result<Refuse, DecodeError> {
    let refuse: &ArchivedRefuseV1 = archive::access("refuse", raw)?;
    if refuse.reason.len() > REFUSE_REASON_BYTES_MAX {
        return Err(DecodeError::TooMany {
            what: "bytes of the refusal's reason",
            count: refuse.reason.len(),
            max: REFUSE_REASON_BYTES_MAX,
        });
    }
    let reason = std::str::from_utf8(&refuse.reason).map_err(|_| DecodeError::Column("reason"))?;
    Ok(Refuse {
        code: RefuseCode::from_code(refuse.code)
            .ok_or(DecodeError::Range("code of the refusal"))?,
        reason: reason.to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_grant_comes_back_as_it_was_and_leaves_room_for_a_batch() {
        let grant = Grant {
            window_batches: 3,
            window_bytes: 1 << 20,
            pause_millis: 250,
        };
        let mut raw = Vec::new();
        encode_grant(&grant, &mut raw).expect("valid");
        assert_eq!(decode_grant(&raw), Ok(grant));
        let nothing = Grant {
            window_batches: 0,
            ..grant
        };
        assert!(encode_grant(&nothing, &mut raw).is_err());
        raw.clear();
        archive::write(
            &GrantV2 {
                window_batches: 0,
                window_bytes: 1,
                pause_millis: 0,
            },
            &mut raw,
        )
        .expect("written");
        assert!(decode_grant(&raw).is_err());
        assert!(decode_grant(&raw[1..]).is_err());
    }
}
