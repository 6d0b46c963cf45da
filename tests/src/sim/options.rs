//! What one run looks like: drawn from the seed, so that every seed is another world.
//!
//! Faults are drawn in the manner of swarm testing: each class is switched on or off for the
//! whole run, because a run with every fault at once hides what two of them do together.

use tollgate_agent_core::spool::SyncPolicy;
use tollgate_common::{Timestamp, WindowWidth};

use super::random::Random;
use super::tariff::{Around, Grant};
use super::workload;

/// A planted bug. Test-only; the simulation must catch each.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Canary {
    /// Sessions acknowledge as soon as an entry is on its way, before its commit.
    AckBeforeSync,
    /// The collector's disk reports syncs that it did not do.
    SyncLie,
    /// The intake forgets which batches it has seen.
    DedupeOff,
    /// The disks report a directory sync that they did not do.
    SkippedDirSync,
    /// The fold books what late usage changes twice.
    LateTwice,
    /// Lines that an invoice has billed wait for the next one.
    BilledAgain,
    /// Usage is rated by the newest version instead of that of its time.
    NewestPrice,
}

impl Canary {
    /// All planted bugs.
    pub const ALL: &[Self] = &[
        Self::AckBeforeSync,
        Self::SyncLie,
        Self::DedupeOff,
        Self::SkippedDirSync,
        Self::LateTwice,
        Self::BilledAgain,
        Self::NewestPrice,
    ];

    /// The name on the command line.
    pub const fn name(self) -> &'static str {
        match self {
            Self::AckBeforeSync => "ack-before-sync",
            Self::SyncLie => "sync-lie",
            Self::DedupeOff => "dedupe-off",
            Self::SkippedDirSync => "skipped-dir-sync",
            Self::LateTwice => "late-twice",
            Self::BilledAgain => "billed-again",
            Self::NewestPrice => "newest-price",
        }
    }

    /// True for bugs that only show where people work on the books.
    pub const fn is_in_books(self) -> bool {
        matches!(self, Self::BilledAgain | Self::NewestPrice)
    }

    /// True for bugs that a replay by a sound fold finds at once: they have to be found from
    /// outside.
    pub const fn is_in_fold(self) -> bool {
        self.is_in_books() || matches!(self, Self::LateTwice)
    }

    /// The planted bug with this name.
    pub fn from_name(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|canary| canary.name() == name)
    }
}

/// Mean virtual milliseconds between two faults of a class; `None` if the class is off.
pub type Mean = Option<u64>;

/// How often what goes wrong.
#[derive(Clone, Debug)]
pub struct Faults {
    /// SIGKILL of an agent.
    pub agent_kill: Mean,
    /// Reset of an agent's host.
    pub agent_reset: Mean,
    /// Orderly stop and start of an agent.
    pub agent_stop: Mean,
    /// SIGKILL of the collector.
    pub collector_kill: Mean,
    /// Reset of the collector's host.
    pub collector_reset: Mean,
    /// A connection breaks.
    pub drop: Mean,
    /// An agent is cut off for a while.
    pub partition: Mean,
    /// An agent's link changes speed.
    pub link_change: Mean,
    /// The next storage operations of an agent fail.
    pub agent_storage: Mean,
    /// The next storage operations of the collector fail.
    pub collector_storage: Mean,
    /// A byte of a spool flips while its agent is down.
    pub spool_flip: Mean,
    /// A clock jumps.
    pub clock_jump: Mean,
    /// A second receiver appends old entries again or out of order.
    pub replay: Mean,
    /// The projection is deleted at the next start of the collector.
    pub delete_projection: Mean,
    /// The snapshots are deleted or damaged at the next start of the collector.
    pub delete_snapshots: Mean,
    /// An image of a host is taken, or the host is set back to it.
    pub image: Mean,
    /// An application ends, and with it its page.
    pub page_death: Mean,
    /// Catalog or policy change.
    pub change: Mean,
    /// A backup of the collector is taken, or the collector is set back to it.
    pub restore: Mean,
    /// The disk of an agent is full, and then the agent is killed and comes back soon.
    pub full_kill: Mean,
    /// People decide something about the books.
    pub books: Mean,
}

/// One run.
#[derive(Clone, Debug)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent properties of a world"
)]
pub struct Options {
    /// The seed.
    pub seed: u64,
    /// The planted bug, if any.
    pub canary: Option<Canary>,
    /// When the run begins.
    pub start: Timestamp,
    /// How long faults and load last, in milliseconds.
    pub load_millis: i64,
    /// Number of agents, 1 to 4.
    pub agents: usize,
    /// Threads that count in each agent, 1 to 3.
    pub writers: u32,
    /// Number of tenants, 1 to 4.
    pub tenants: usize,
    /// Width of the agents' windows.
    pub width: WindowWidth,
    /// Length of billing periods in seconds.
    pub period_secs: u32,
    /// How long a period waits for stragglers, in milliseconds.
    pub settlement_millis: i64,
    /// How far a watermark may run ahead, in milliseconds.
    pub future_tolerance_millis: i64,
    /// Tenant partitions of the fold.
    pub partitions: u16,
    /// Size of the spools' segments in bytes.
    pub spool_segment_bytes: u64,
    /// Bound of each spool in bytes.
    pub spool_bytes_max: u64,
    /// When the spools are synced.
    pub spool_sync: SyncPolicy,
    /// Size of the journal's segments in bytes.
    pub journal_segment_bytes: u64,
    /// Mean milliseconds between two counts of one agent.
    pub count_every_millis: u64,
    /// Longest time between two group commits, in milliseconds.
    pub commit_delay_millis: u64,
    /// Mean milliseconds between two snapshots of the fold.
    pub snapshot_every_millis: u64,
    /// Regions into which a meter is split; many make batches large.
    pub regions: usize,
    /// Most series of one writer before they lose their dimensions.
    pub series_max: u32,
    /// Most series of one tenant before they lose their dimensions.
    pub series_per_tenant: u32,
    /// After how many milliseconds a series that nobody counts on may be retired.
    pub idle_millis: i64,
    /// Bytes that the spool leaves free on its disk.
    pub spool_free_min: u64,
    /// Applications count in pages of their own.
    pub pages: bool,
    /// An application stores to its page whatever it likes.
    pub forged_pages: bool,
    /// Most batches on the way without acknowledgement.
    pub window_batches: u32,
    /// An agent may not report for one of the tenants.
    pub forbidden_tenant: bool,
    /// A meter has no price.
    pub unpriced_meter: bool,
    /// A tenant has no profile.
    pub unknown_tenant: bool,
    /// The first agent is of a release that speaks version 1 of the wire format alone.
    pub old_agent: bool,
    /// The collector is of such a release until this long after the start, in milliseconds; 0
    /// for never.
    pub old_collector_millis: i64,
    /// The collector changes what agents may have on the way.
    pub grants: bool,
    /// Late usage is booked in the next open period, and does not correct its own.
    pub late_next: bool,
    /// A fee is due for every period.
    pub fee: bool,
    /// Periods are of a length that divides no day, and count from an anchor.
    pub anchored: bool,
    /// The first tenant pays for others.
    pub payer: bool,
    /// Every period is a day of the tenant's zone.
    pub daily: bool,
    /// A meter has another price beside its first one, with some versions.
    pub lanes: bool,
    /// Some tenants have rates of their own, with some versions.
    pub contracts: bool,
    /// The largest values of a meter, and the levels of another one, have prices.
    pub figures: bool,
    /// What stands around the prices.
    pub around: Around,
    /// What goes wrong.
    pub faults: Faults,
}

/// About how long a period of a day is.
const DAY_SECS: u32 = 86_400;

/// Beginnings worth testing: an ordinary day, the last minutes of a month, both changes of
/// daylight saving time in Berlin, the last minutes of a leap day.
const STARTS: &[i64] = &[
    1_780_315_200, // 2026-06-01T12:00:00Z
    1_782_863_700, // 2026-06-30T23:55:00Z
    1_774_745_700, // 2026-03-29T00:55:00Z
    1_792_889_700, // 2026-10-25T00:55:00Z
    1_835_481_300, // 2028-02-29T23:55:00Z
];

impl Options {
    /// The world of `seed`.
    pub fn from_seed(seed: u64, canary: Option<Canary>) -> Self {
        let mut random = Random::new(seed ^ 0x0070_6C61_6E00_0000);
        let width_secs = *random.pick(&[1, 5, 10]);
        let windows = random.between(20, 60);
        let load_millis = i64::from(width_secs) * random.millis(windows, windows) * 1000;
        let start =
            Timestamp::from_secs(*random.pick(STARTS)).plus_millis(random.millis(0, 20_000));
        let minutes = u64::try_from(load_millis).expect("positive") / 60_000 + 1;
        let later = Later::draw(seed, load_millis, minutes, canary);
        let mut options = Self {
            seed,
            canary,
            start,
            load_millis,
            agents: 1 + random.index(4),
            writers: 1 + u32::try_from(random.below(3)).expect("small"),
            tenants: 1 + random.index(4),
            width: WindowWidth::from_secs(width_secs).expect("divides 900"),
            period_secs: *random.pick(&[15, 60, 300, 900]),
            settlement_millis: random.millis(1, 60) * 1000,
            future_tolerance_millis: *random.pick(&[1_000, 5_000, 300_000]),
            partitions: *random.pick(&[1, 2, 4]),
            spool_segment_bytes: *random.pick(&[4096, 8192, 65_536]),
            spool_bytes_max: *random.pick(&[65_536, 131_072, 1 << 22]),
            journal_segment_bytes: *random.pick(&[8192, 65_536, 1 << 20]),
            count_every_millis: *random.pick(&[50, 200, 1000, 4000]) * u64::from(width_secs),
            commit_delay_millis: *random.pick(&[0, 5, 50, 500]),
            snapshot_every_millis: *random.pick(&[15_000, 60_000, 200_000]),
            regions: *random.pick(&[3, 3, 3, 100]),
            series_max: *random.pick(&[4, 64, 512]),
            window_batches: *random.pick(&[1, 4, 32]),
            forbidden_tenant: random.chance(300),
            unpriced_meter: random.chance(300),
            unknown_tenant: random.chance(200),
            old_agent: later.old_agent,
            old_collector_millis: later.old_collector_millis,
            grants: later.grants,
            late_next: later.late_next,
            fee: later.fee,
            anchored: later.anchored,
            payer: later.payer,
            daily: later.long,
            lanes: later.lanes,
            contracts: later.contracts,
            figures: later.figures,
            around: later.around,
            faults: Faults {
                restore: later.restore,
                full_kill: later.full_kill,
                books: later.books,
                ..Faults::draw(&mut random, minutes, canary)
            },
            spool_sync: *random.pick(&[
                SyncPolicy::Always,
                SyncPolicy::Interval { millis: 20_000 },
                SyncPolicy::OnDisconnect { millis: 20_000 },
            ]),
            series_per_tenant: *random.pick(&[u32::MAX, u32::MAX, u32::MAX, 6]),
            idle_millis: *random.pick(&[3_600_000, 60_000, 15_000]),
            spool_free_min: *random.pick(&[0, 0, 2048]),
            pages: random.chance(500),
            forged_pages: random.chance(200),
        };
        // A page may hold what only version 2 can say.
        options.old_agent &= !options.forged_pages;
        // Whatever waits for the end of a month passes over thousands of short periods, each with
        // its fee: a clock that jumps, and usage of those who have no profile.
        let walks = options.faults.clock_jump.is_none() && !options.forged_pages;
        options.fee &= walks;
        if !walks {
            options.around.minimum = None;
            options.around.commitment = None;
        }
        if options.fee {
            options.period_secs = options.period_secs.max(900);
        }
        options.daily |= options.around.is_due_unused();
        if options.daily {
            // A new version comes into force before usage ends.
            options.start = options.start.plus_millis(240_000);
            options.period_secs = DAY_SECS;
        }
        options
    }

    /// True if every series finds room with all its dimensions.
    pub fn has_room_for_all(&self) -> bool {
        let series = self.tenants * (self.regions + workload::PLAIN_METERS) + 1;
        usize::try_from(self.series_max).is_ok_and(|most| most > series + 8)
            && self.series_per_tenant == u32::MAX
            // Many regions have more bytes of names than there is room for.
            && self.regions <= 3
    }

    /// True if nothing that is planned destroys usage, refuses it, or turns the clock: every
    /// figure is then exact, if rare sealing takes the windows from some of it, then over all
    /// windows.
    pub fn is_exact(&self) -> bool {
        let faults = &self.faults;
        let harmful = [
            faults.agent_reset,
            faults.spool_flip,
            faults.image,
            faults.clock_jump,
            faults.change,
            faults.restore,
        ];
        self.canary.is_none() && harmful.iter().all(Option::is_none)
    }

    /// The same world with hosts that are often set back to an image of themselves, and with
    /// seals that come in several parts: chance seldom brings the two together.
    #[must_use]
    pub fn with_clones(mut self) -> Self {
        self.regions = 150;
        self.spool_bytes_max = 65_536;
        let millis = u64::try_from(self.load_millis).expect("positive");
        self.faults.image = Some((millis / 12).max(500));
        self
    }
}

/// What came to the simulation later. Drawn by itself, so that what else goes wrong with a seed
/// does not depend on it.
#[expect(
    clippy::struct_excessive_bools,
    reason = "independent properties of a world"
)]
struct Later {
    restore: Mean,
    full_kill: Mean,
    old_agent: bool,
    old_collector_millis: i64,
    grants: bool,
    late_next: bool,
    fee: bool,
    anchored: bool,
    payer: bool,
    around: Around,
    lanes: bool,
    contracts: bool,
    figures: bool,
    long: bool,
    books: Mean,
}

impl Later {
    fn draw(seed: u64, load_millis: i64, minutes: u64, canary: Option<Canary>) -> Self {
        let mean = |times: u64| (minutes * 60_000 / times).max(500);
        let mut random = Random::new(seed ^ 0x7265_7374_6F72_6500);
        let on = random.chance(250);
        let times = 2 + random.below(5);
        let restore = on.then(|| mean(times));
        let mut random = Random::new(seed ^ 0x6C61_7465_7200_0000);
        let on = random.chance(150);
        let times = 1 + random.below(4);
        let full_kill = on.then(|| mean(times));
        let old_agent = random.chance(200);
        let old = random.chance(150);
        let until = random.millis(1, u64::try_from(load_millis).expect("positive"));
        let grants = random.chance(300);
        let mut random = Random::new(seed ^ 0x7065_7269_6F64_7300);
        let late_next = random.chance(400);
        let fee = random.chance(250);
        let anchored = random.chance(250);
        let mut random = Random::new(seed ^ 0x7061_7965_7200_0000);
        let payer = random.chance(350);
        let mut random = Random::new(seed ^ 0x626F_6F6B_7300_0000);
        let on = random.chance(500);
        let times = 3 + random.below(10);
        let books = on.then(|| mean(times));
        let on = random.chance(600);
        let around = Around::draw(&mut random);
        let around = if on { around } else { Around::default() };
        let long = random.chance(200);
        let mut random = Random::new(seed ^ 0x7468_7265_7368_0000);
        let threshold = random.chance(250).then(|| 1 + random.below(5000));
        let around = Around {
            threshold: threshold.map(i128::from),
            ..around
        };
        let lanes = random.chance(300);
        let contracts = random.chance(300);
        let figures = random.chance(300);
        let days = random.chance(400).then(|| random.millis(1, 3));
        let grant = around.grant.map(|grant| Grant { days, ..grant });
        let around = Around { grant, ..around };
        // A planted bug is looked for in worlds as they were when it was planted.
        let healthy = canary.is_none_or(Canary::is_in_books);
        Self {
            restore: restore.filter(|_| healthy),
            full_kill: full_kill.filter(|_| healthy),
            old_agent: healthy && old_agent,
            old_collector_millis: if healthy && old { until } else { 0 },
            grants: healthy && grants,
            late_next: healthy && late_next,
            fee: healthy && fee,
            anchored: healthy && anchored,
            payer: healthy && payer,
            around: if healthy { around } else { Around::default() },
            lanes: healthy && lanes,
            contracts: healthy && contracts,
            figures: healthy && figures,
            long: healthy && long,
            books: books.filter(|_| healthy),
        }
    }
}

impl Faults {
    fn draw(random: &mut Random, minutes: u64, canary: Option<Canary>) -> Self {
        // A run of m minutes sees about `times` faults of a class that is on.
        let mut class = |per_mille: u32, times: u64| -> Mean {
            let on = random.chance(per_mille);
            let times = 1 + random.below(times);
            on.then(|| (minutes * 60_000 / times).max(500))
        };
        let mut faults = Self {
            agent_kill: class(500, 8),
            agent_reset: class(300, 4),
            agent_stop: class(300, 4),
            collector_kill: class(500, 8),
            collector_reset: class(400, 6),
            drop: class(600, 20),
            partition: class(400, 5),
            link_change: class(400, 5),
            agent_storage: class(250, 4),
            collector_storage: class(250, 4),
            spool_flip: class(200, 4),
            clock_jump: class(250, 4),
            replay: class(300, 20),
            delete_projection: class(200, 3),
            delete_snapshots: class(200, 3),
            image: class(150, 6),
            page_death: class(300, 6),
            change: class(300, 4),
            restore: None,
            full_kill: None,
            books: None,
        };
        match canary {
            None
            | Some(
                Canary::DedupeOff | Canary::LateTwice | Canary::BilledAgain | Canary::NewestPrice,
            ) => {}
            // The lie shows only when the host goes down.
            Some(Canary::AckBeforeSync | Canary::SyncLie | Canary::SkippedDirSync) => {
                faults.collector_reset = Some(minutes * 60_000 / 8);
                faults.agent_reset = Some(minutes * 60_000 / 4);
            }
        }
        faults
    }
}
