//! Who may ask what over the admin socket.
//!
//! The kernel decides who can connect at all: the socket has mode 0600, or 0660 and the
//! group that the configuration names. Who has connected is told by the peer credentials
//! (`SO_PEERCRED`), taken by the kernel when the peer connected: the agent's own user and
//! root may do everything; anybody else came in through the group, and may read, and count
//! only where the configuration says so.

use std::io;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::Path;

use tollgate_agent_core::config::Admin;

/// The longest list of groups that is read.
const GROUP_FILE_BYTES_MAX: usize = 4 << 20;

/// What a request needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Right {
    /// To see: status, top, tap.
    Read,
    /// To count, which is to write bills.
    Count,
    /// To change the agent: reload.
    Change,
}

/// The rights that are configured.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Access {
    owner: u32,
    group: Option<u32>,
    group_may_count: bool,
}

impl Access {
    /// Looks up the group; its absence is an error, because a typing mistake would otherwise
    /// be a closed door.
    pub(crate) fn new(admin: &Admin) -> io::Result<Self> {
        let group = match &admin.group {
            Some(name) => Some(group_id(name)?),
            None => None,
        };
        Ok(Self {
            owner: rustix::process::geteuid().as_raw(),
            group,
            group_may_count: admin.group_may_count,
        })
    }

    /// Gives the socket its group and mode. The group comes first: the mode must not let in
    /// the group that the file had before.
    pub(crate) fn apply(&self, socket: &Path) -> io::Result<()> {
        let mode = if let Some(group) = self.group {
            chown(socket, None, Some(group))?;
            0o660
        } else {
            0o600
        };
        std::fs::set_permissions(socket, std::fs::Permissions::from_mode(mode))
    }

    /// True if a peer of this user may do that.
    pub(crate) fn allows(&self, user: u32, right: Right) -> bool {
        user == 0
            || user == self.owner
            || match right {
                Right::Read => self.group.is_some(),
                Right::Count => self.group.is_some() && self.group_may_count,
                Right::Change => false,
            }
    }
}

/// The number of a group. Only the host's own file is read: a name service may hang, and its
/// library does not belong into a static program.
fn group_id(name: &str) -> io::Result<u32> {
    if let Ok(number) = name.parse() {
        return Ok(number);
    }
    let mut text = String::new();
    crate::read_proc("/etc/group", GROUP_FILE_BYTES_MAX, &mut text)?;
    find_group(&text, name).ok_or_else(|| {
        let message = format!("no group `{name}` in /etc/group (admin.group; a number works too)");
        io::Error::new(io::ErrorKind::NotFound, message)
    })
}

fn find_group(text: &str, name: &str) -> Option<u32> {
    let mut lines = text.lines().map(|line| line.split(':'));
    lines.find_map(|mut fields| {
        (fields.next() == Some(name)).then(|| fields.nth(1)?.parse().ok())?
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn groups_are_found_by_name() {
        let text = "root:x:0:\nops:x:27:alice,bob\nbroken\nwrong:x:abc:\n";
        assert_eq!(find_group(text, "ops"), Some(27));
        for name in ["op", "broken", "wrong", ""] {
            assert_eq!(find_group(text, name), None, "{name}");
        }
    }

    #[test]
    fn the_group_reads_and_counts_only_if_it_may() {
        let closed = Access {
            owner: 1000,
            group: None,
            group_may_count: false,
        };
        let reading = Access {
            group: Some(27),
            ..closed.clone()
        };
        let counting = Access {
            group_may_count: true,
            ..reading.clone()
        };
        for right in [Right::Read, Right::Count, Right::Change] {
            for access in [&closed, &reading, &counting] {
                assert!(access.allows(0, right) && access.allows(1000, right));
            }
            assert!(!closed.allows(1001, right));
        }
        let rights = |access: &Access| {
            [Right::Read, Right::Count, Right::Change].map(|right| access.allows(1001, right))
        };
        assert_eq!(rights(&reading), [true, false, false]);
        assert_eq!(rights(&counting), [true, true, false]);
    }
}
