//! Pages that nobody should make, and changes while they are read.

use super::{Duration, Instant, Path, Write};
use std::io::{IoSlice, Read};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::net::UnixStream;

use rustix::fs::{MemfdFlags, SealFlags, fcntl_add_seals, ftruncate, memfd_create};
use rustix::io::pwrite;
use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
use tollgate::page::hello::{self, ANSWER_BYTES, Answer};
use tollgate::page::{MAGIC, VERSION, at};

const BYTES: u64 = 64 << 10;

fn file(seals: SealFlags, words: &[(usize, u64)]) -> OwnedFd {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    let fd = memfd_create("hostile", flags).expect("memfd");
    ftruncate(&fd, BYTES).expect("sizeable");
    for (at, value) in words {
        put(&fd, *at, *value);
    }
    fcntl_add_seals(&fd, seals).expect("sealable");
    fd
}

fn put(fd: &OwnedFd, at: usize, value: u64) {
    pwrite(fd, &value.to_ne_bytes(), at as u64 * 8).expect("writable");
}

fn offer(socket: &Path, fd: &OwnedFd, said: u64) -> (UnixStream, Option<Answer>) {
    let mut stream = UnixStream::connect(socket).expect("the agent listens");
    let timeout = Some(Duration::from_secs(10));
    stream.set_read_timeout(timeout).expect("settable");
    let hello = hello::hello([9; 16], said);
    let fds = [fd.as_fd()];
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    assert!(control.push(SendAncillaryMessage::ScmRights(&fds)));
    let hello = [IoSlice::new(&hello)];
    sendmsg(&stream, &hello, &mut control, SendFlags::NOSIGNAL).expect("sent");
    let mut answer = [0; ANSWER_BYTES];
    let read = stream.read_exact(&mut answer);
    (stream, read.ok().and_then(|()| Answer::parse(&answer)))
}

fn header(more: &[(usize, u64)]) -> Vec<(usize, u64)> {
    let mut words = vec![
        (at::MAGIC, MAGIC),
        (at::VERSION, VERSION),
        (at::WORDS, BYTES / 8),
        (at::SLOTS_MAX, 100),
        (at::ID, 77),
    ];
    words.extend_from_slice(more);
    let memory: Vec<_> = (0..at::DIRECTORY)
        .map(|at| {
            let value = words.iter().find(|word| word.0 == at);
            std::sync::atomic::AtomicU64::new(value.map_or(0, |word| word.1))
        })
        .collect();
    words.push((at::CHECKSUM, tollgate::page::header_checksum(&memory)));
    words
}

pub(super) fn attack(socket: &Path) {
    let all = SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL;
    let refused = |fd: &OwnedFd, said| {
        let (_, answer) = offer(socket, fd, said);
        assert_ne!(answer.map(|answer| answer.code), Some(hello::TAKEN));
    };
    refused(&file(SealFlags::empty(), &header(&[])), BYTES);
    refused(&file(all, &header(&[])), BYTES * 2);
    refused(&file(all, &header(&[])), u64::MAX);
    refused(&file(all, &[]), BYTES);
    refused(&file(all, &header(&[(at::SLOTS_MAX, 1 << 40)])), BYTES);
    // Of another agent.
    refused(&file(all, &header(&[(at::HOME, 5)])), BYTES);
    // Nonsense, silence, and a hello in pieces.
    for bytes in [&b"GET / HTTP/1.0\r\n\r\n"[..], &[], &hello::HELLO] {
        let mut stream = UnixStream::connect(socket).expect("the agent listens");
        stream.write_all(bytes).expect("writable");
    }
    // Taken, then changed without rest while it is read.
    let fd = file(all, &header(&[]));
    let (stream, answer) = offer(socket, &fd, BYTES);
    let answer = answer.expect("taken");
    assert_eq!(answer.code, hello::TAKEN);
    put(&fd, at::HOME, answer.mirror);
    put(&fd, at::COUNT, u64::MAX);
    let (mut random, begin) = (88_172_645_463_325_252_u64, Instant::now());
    while begin.elapsed() < Duration::from_secs(3) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        let words = usize::try_from(BYTES / 8).expect("small");
        let word = usize::try_from(random >> 8).unwrap_or(0) % words;
        if word >= at::DIRECTORY {
            put(&fd, word, random);
        }
    }
    drop(stream);
}
