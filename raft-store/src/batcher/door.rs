//! The way into the batcher: bounded, fair, and closed when nothing could come of entering.

use std::{
    net::SocketAddr,
    sync::{
        Arc, Mutex, MutexGuard,
        atomic::{AtomicBool, AtomicU8, AtomicU64, Ordering},
    },
};

use inventory_machine::codec::MACHINE_VERSION_FIRST;
use tokio::sync::{mpsc, oneshot};

use super::{
    frame::{Frame, FrameAnswer, Unsubmitted},
    shares::{Room, Source, SourceId},
};
use crate::{limits::QUEUE_FRAMES_MAX, machine_versions::Behind};

/// Which queue a frame waits in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Lane {
    /// Frames that only ask for new units.
    Claims = 0,
    /// Frames with anything else: they have a reserved share of every entry.
    Settles = 1,
}

impl Lane {
    pub const ALL: [Lane; 2] = [Lane::Claims, Lane::Settles];

    pub fn of(frame: &Frame) -> Lane {
        if frame.commands.iter().all(|command| command.takes_units()) {
            Lane::Claims
        } else {
            Lane::Settles
        }
    }
}

/// Where a frame counts while it waits.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    pub lane: Lane,
    pub source: SourceId,
}

/// A frame on its way in.
pub(super) struct Submission {
    pub frame: Frame,
    pub place: Place,
    pub reply: oneshot::Sender<FrameAnswer>,
}

/// Whether commands can be proposed here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum LeadState {
    /// Somebody else leads, or nobody.
    Following = 0,
    /// This node leads, but what came before its term is not applied, or the cluster has no identity yet.
    Starting = 1,
    /// This node leads and is ready.
    Leading = 2,
}

/// The member that knows least, if that is less than this version of the machine.
pub(super) type BehindNow = Box<dyn Fn(u16) -> Option<Behind> + Send + Sync>;

struct Shared {
    behind: BehindNow,
    inbox: mpsc::Sender<Submission>,
    rooms: [Mutex<Room>; 2],
    lead: AtomicU8,
    stopping: AtomicBool,
    disk_reserve_reached: AtomicBool,
    entries_total: AtomicU64,
    commands_total: AtomicU64,
}

/// The door. Cheap to clone.
#[derive(Clone)]
pub struct Door(Arc<Shared>);

pub(super) fn open(behind: BehindNow) -> (Door, mpsc::Receiver<Submission>) {
    let (inbox, receiver) = mpsc::channel(2 * QUEUE_FRAMES_MAX);
    let door = Door(Arc::new(Shared {
        behind,
        inbox,
        rooms: Default::default(),
        lead: AtomicU8::new(LeadState::Following as u8),
        stopping: AtomicBool::new(false),
        disk_reserve_reached: AtomicBool::new(false),
        entries_total: AtomicU64::new(0),
        commands_total: AtomicU64::new(0),
    }));
    (door, receiver)
}

impl Door {
    /// Lets a frame of this peer in; its answer comes through the receiver. A dropped receiver costs nothing.
    ///
    /// # Errors
    /// Nothing of the frame was proposed.
    ///
    /// # Panics
    /// When the frame is empty: the services refuse those.
    pub fn submit(
        &self,
        frame: Frame,
        peer: SocketAddr,
    ) -> Result<oneshot::Receiver<FrameAnswer>, Unsubmitted> {
        assert!(!frame.commands.is_empty(), "an empty frame has no answer");
        let count = frame.commands.len() as u64;
        self.enter(frame, peer).inspect_err(|why| {
            metrics::counter!("holdfast_unsubmitted_commands_total", "cause" => why.cause()).increment(count);
        })
    }

    fn enter(
        &self,
        mut frame: Frame,
        peer: SocketAddr,
    ) -> Result<oneshot::Receiver<FrameAnswer>, Unsubmitted> {
        let (lane, count) = (Lane::of(&frame), frame.commands.len());
        let source = self.check(&frame).and_then(|()| {
            let source = self.room(lane).enter(Source::of(&frame, peer), count);
            source.ok_or(Unsubmitted::Overloaded)
        });
        let source = source.inspect_err(|why| frame.refused(why))?;
        let place = Place { lane, source };
        let (reply, answer) = oneshot::channel();
        self.0
            .inbox
            .try_send(Submission { frame, place, reply })
            .map_err(|error| {
                self.left(place, count);
                match error {
                    mpsc::error::TrySendError::Full(_) => Unsubmitted::Overloaded,
                    mpsc::error::TrySendError::Closed(_) => Unsubmitted::Stopping,
                }
            })?;
        Ok(answer)
    }

    fn room(&self, lane: Lane) -> MutexGuard<'_, Room> {
        self.0.rooms[lane as usize]
            .lock()
            .expect("no code panics while holding it")
    }

    /// Commands that wait in each lane: claims, and all others.
    pub fn waiting(&self) -> [usize; 2] {
        Lane::ALL.map(|lane| self.room(lane).waiting())
    }

    fn check(&self, frame: &Frame) -> Result<(), Unsubmitted> {
        if self.is_stopping() {
            return Err(Unsubmitted::Stopping);
        }
        match self.0.lead.load(Ordering::Acquire) {
            lead if lead == LeadState::Leading as u8 => {}
            lead if lead == LeadState::Starting as u8 => return Err(Unsubmitted::Starting),
            _ => return Err(Unsubmitted::NotLeader),
        }
        if self.0.disk_reserve_reached.load(Ordering::Relaxed)
            && frame.commands.iter().any(|command| command.takes_units())
        {
            return Err(Unsubmitted::DiskReserve);
        }
        frame
            .commands
            .iter()
            .try_for_each(|command| self.check_version(command.version()))
    }

    /// Whether every member could apply a command that came with this version. Nothing that fails this enters; asked
    /// command by command, one that does keeps no others of its frame out. Only the leader's word counts.
    ///
    /// # Errors
    /// A member could not.
    pub fn check_version(&self, needed: u16) -> Result<(), Unsubmitted> {
        if needed == MACHINE_VERSION_FIRST || self.0.lead.load(Ordering::Acquire) != LeadState::Leading as u8
        {
            return Ok(());
        }
        match (self.0.behind)(needed) {
            Some(behind) => Err(Unsubmitted::Upgrade { needed, behind }),
            None => Ok(()),
        }
    }

    /// Says whether commands can be proposed here.
    pub fn set_lead(&self, lead: LeadState) {
        self.0.lead.store(lead as u8, Ordering::Release);
    }

    /// Says whether the disk is too full for new claims.
    pub fn set_disk_reserve_reached(&self, reached: bool) {
        self.0.disk_reserve_reached.store(reached, Ordering::Relaxed);
    }

    /// Closes the door for good; what is inside is still answered.
    pub fn stop(&self) {
        self.0.stopping.store(true, Ordering::Release);
    }

    /// Whether the door is closed for good.
    pub fn is_stopping(&self) -> bool {
        self.0.stopping.load(Ordering::Acquire)
    }

    /// Entries and commands proposed since the start.
    pub fn totals(&self) -> (u64, u64) {
        (
            self.0.entries_total.load(Ordering::Relaxed),
            self.0.commands_total.load(Ordering::Relaxed),
        )
    }

    pub(super) fn count_entry(&self, commands: usize) {
        self.0.entries_total.fetch_add(1, Ordering::Relaxed);
        self.0
            .commands_total
            .fetch_add(commands as u64, Ordering::Relaxed);
    }

    /// Commands of a frame left its queue.
    pub(super) fn left(&self, place: Place, count: usize) {
        self.room(place.lane).leave(place.source, count);
    }
}

#[cfg(test)]
mod tests {
    use inventory_machine::command::{Body, ClaimId, Settle, Take};

    use super::{
        super::frame::{PreparedBody, PreparedCommand},
        *,
    };
    use crate::{
        limits::{FRAME_COMMANDS_MAX, QUEUE_COMMANDS_MAX},
        machine_versions::MachineVersions,
    };

    fn frame(body: Body<'static>, count: usize) -> Frame {
        let command = PreparedCommand {
            follows: false,
            principal: 1,
            key: 2,
            not_after_ms: 3,
            body: PreparedBody::Plain(body),
        };
        Frame {
            sales: vec!["hot".to_owned()],
            commands: vec![command; count],
            followed: Vec::new(),
        }
    }

    fn claims(count: usize) -> Frame {
        frame(
            Body::Claim(Take {
                sale: 0,
                user: 1,
                quantity: 1,
            }),
            count,
        )
    }

    fn confirm() -> Frame {
        frame(
            Body::Confirm(Settle {
                claim: ClaimId([0; 24]),
                fencing_token: 1,
            }),
            1,
        )
    }

    fn leading() -> (Door, mpsc::Receiver<Submission>) {
        let (door, inbox) = open(Box::new(|_| None));
        door.set_lead(LeadState::Leading);
        (door, inbox)
    }

    fn peer(port: u16) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], port))
    }

    /// Fills the claims' lane as far as one peer may.
    fn fill(door: &Door, by: SocketAddr) -> usize {
        std::iter::from_fn(|| door.submit(claims(FRAME_COMMANDS_MAX), by).ok()).count()
    }

    #[test]
    fn a_full_lane_refuses_at_the_door_and_leaves_the_other_open() {
        let (door, mut inbox) = leading();
        let frames = fill(&door, peer(1));
        assert!(
            frames > QUEUE_COMMANDS_MAX / FRAME_COMMANDS_MAX * 7 / 8,
            "{frames}"
        );
        let full = door.submit(claims(FRAME_COMMANDS_MAX), peer(1));
        assert_eq!(full.unwrap_err(), Unsubmitted::Overloaded);
        // Who holds units can still pay for them.
        door.submit(confirm(), peer(1))
            .expect("confirms have a lane of their own");
        // What leaves makes room, and a refusal took none.
        let Submission { frame, place, .. } = inbox.try_recv().expect("the first frame");
        door.left(place, frame.commands.len());
        assert_eq!(
            fill(&door, peer(1)),
            1,
            "there is room again, for as much as left"
        );
        assert_eq!(door.waiting(), [frames * FRAME_COMMANDS_MAX, 1]);
    }

    #[test]
    fn one_who_fills_the_lane_keeps_no_one_else_out() {
        let (door, _inbox) = leading();
        fill(&door, peer(1));
        for port in 2..100 {
            door.submit(claims(1), peer(port)).expect("others get in");
        }
        assert!(
            fill(&door, peer(100)) > 0,
            "and so does another who asks for much"
        );
    }

    #[test]
    fn a_platform_has_one_share_through_whichever_connections() {
        let (door, _inbox) = leading();
        let platform = || {
            let mut frame = claims(FRAME_COMMANDS_MAX);
            frame
                .commands
                .iter_mut()
                .for_each(|command| command.principal = 9);
            frame
        };
        while door.submit(platform(), peer(1)).is_ok() {}
        let again = door.submit(platform(), peer(2));
        assert_eq!(again.unwrap_err(), Unsubmitted::Overloaded);
        // Users who ask for themselves are not the platform, not even on its connection.
        door.submit(claims(1), peer(1)).expect("a shopper gets in");
    }

    #[test]
    fn nothing_enters_where_nothing_could_come_of_it() {
        let (door, mut inbox) = open(Box::new(|_| None));
        assert_eq!(
            door.submit(claims(1), peer(1)).unwrap_err(),
            Unsubmitted::NotLeader
        );
        door.set_lead(LeadState::Starting);
        assert_eq!(
            door.submit(claims(1), peer(1)).unwrap_err(),
            Unsubmitted::Starting
        );
        door.set_lead(LeadState::Leading);
        door.stop();
        assert_eq!(
            door.submit(claims(1), peer(1)).unwrap_err(),
            Unsubmitted::Stopping
        );
        assert!(inbox.try_recv().is_err(), "a refused frame is not inside");
    }

    #[test]
    fn what_a_member_does_not_know_stays_outside() {
        let versions = MachineVersions::new(1);
        let told = versions.clone();
        let (door, _inbox) = open(Box::new(move |needed| versions.behind(needed, 1, [1, 2, 3])));
        told.hear(1, 2);
        told.hear(2, 2);
        assert_eq!(door.check_version(2), Ok(()), "who does not lead says so instead");
        door.set_lead(LeadState::Leading);
        let refused = door.check_version(2).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this command needs machine version 2; node 3 has not said what it knows: upgrade it first"
        );
        told.hear(3, 1);
        let refused = door.check_version(2).unwrap_err();
        assert_eq!(
            refused.to_string(),
            "this command needs machine version 2; node 3 knows 1: upgrade it first"
        );
        // What everybody knows goes on meanwhile.
        door.submit(claims(1), peer(1))
            .expect("claims came with the first version");
        told.hear(3, 2);
        assert_eq!(door.check_version(2), Ok(()));
        assert!(door.check_version(3).is_err());
    }

    #[test]
    fn a_full_disk_refuses_claims_and_lets_holders_pay() {
        let (door, _inbox) = leading();
        door.set_disk_reserve_reached(true);
        assert_eq!(
            door.submit(claims(1), peer(1)).unwrap_err(),
            Unsubmitted::DiskReserve
        );
        door.submit(confirm(), peer(1))
            .expect("a confirm needs no reserve");
        door.set_disk_reserve_reached(false);
        door.submit(claims(1), peer(1)).expect("there is space again");
    }
}
