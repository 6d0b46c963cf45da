//! Reads the kernel's interface counters at an interval.

use std::io;
use std::os::fd::OwnedFd;
use std::thread::JoinHandle;

use rustix::net::{AddressFamily, SocketFlags, SocketType, socket_with};
use tollgate_agent_core::aggregate::Region;
use tollgate_agent_core::attribute::Glob;
use tollgate_agent_core::config::Interfaces;
use tollgate_agent_core::input::interfaces::{
    Increment, InterfaceEvent, InterfaceSample, InterfaceSink, InterfaceTracker, NET_DEV_BYTES_MAX,
    parse_net_dev,
};
use tollgate_agent_core::input::tally::Tally;
use tollgate_common::Timestamp;
use tracing::{info, warn};

use super::stop::{Stop, Waited};
use crate::{clock, pressure};

/// Of the network namespace that this process is in.
const NET_DEV: &str = "/proc/self/net/dev";

/// Starts the thread that polls until `stop` is raised, and once more then.
pub(crate) fn spawn<R: Region + 'static>(
    config: Interfaces,
    tally: Tally<R>,
    stop: Stop,
) -> io::Result<JoinHandle<()>> {
    // Any socket will do to ask the kernel for the index of an interface.
    let probe = socket_with(
        AddressFamily::INET,
        SocketType::DGRAM,
        SocketFlags::CLOEXEC,
        None,
    )?;
    let interval = config.interval;
    let mut poller = Poller {
        exclude: config.exclude,
        tally,
        tracker: InterfaceTracker::new(),
        probe,
        text: String::new(),
    };
    // The baseline is taken before the agent says that it runs.
    poller.poll()?;
    super::spawn("interfaces", move || {
        loop {
            let waited = stop.wait(None, Some(interval));
            // The kernel keeps counting: while the spool is full, it is read later. At the end it
            // is read whatever the spool says.
            let later = pressure::hold() && matches!(waited, Ok(Waited::TimedOut));
            if !later && let Err(error) = poller.poll() {
                warn!(%error, "cannot read {NET_DEV}");
            }
            match waited {
                Ok(Waited::Stopped) => return,
                Ok(Waited::Ready | Waited::TimedOut) => {}
                Err(error) => {
                    warn!(%error, "cannot wait for the next poll");
                    std::thread::sleep(interval);
                }
            }
        }
    })
}

struct Poller<R: Region + 'static> {
    exclude: Vec<Glob>,
    tally: Tally<R>,
    tracker: InterfaceTracker,
    probe: OwnedFd,
    text: String,
}

impl<R: Region + 'static> Poller<R> {
    fn poll(&mut self) -> io::Result<()> {
        crate::read_proc(NET_DEV, NET_DEV_BYTES_MAX, &mut self.text)?;
        let mut sink = Sink {
            tally: &mut self.tally,
            now: clock::now(),
        };
        let (exclude, probe) = (&self.exclude, &self.probe);
        let samples = parse_net_dev(&self.text)
            .filter_map(|line| match line {
                Ok(sample) => Some(sample),
                Err(error) => {
                    warn!(%error, "interface is not metered");
                    None
                }
            })
            .filter(|sample| !exclude.iter().any(|glob| glob.matches(sample.name)))
            .map(|sample: InterfaceSample<'_>| {
                let index = rustix::net::netdevice::name_to_index(probe, sample.name);
                (sample, index.unwrap_or(0))
            });
        self.tracker.handle_poll(samples, &mut sink);
        self.tally.retire_idle();
        Ok(())
    }
}

struct Sink<'a, R: Region + 'static> {
    tally: &'a mut Tally<R>,
    now: Timestamp,
}

impl<R: Region + 'static> InterfaceSink for Sink<'_, R> {
    fn increment(&mut self, increment: Increment<'_>) {
        if let Err(error) = self.tally.handle_increment(&increment, self.now) {
            warn!(%error, interface = increment.interface, "traffic is not counted");
        }
    }

    fn event(&mut self, interface: &str, event: InterfaceEvent) {
        info!(interface, "interface {event}");
    }
}
